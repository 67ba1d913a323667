"""A function's matrix products and convolutions in bfloat16, everything between them in float32.

Mixed precision (Micikevicius et al. 2018) without any cooperation of the network, read from its jaxpr: whatever comes
to a product in float32 is rounded, and the product's result too, so that what is stored and moved has two bytes. Sums,
normalisations, exponentials and constants keep their float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jax_prune.types import Array, Tree

PRODUCTS = ("dot_general", "conv_general_dilated")
CALLS = {  # what such an equation runs, as it stands; derivatives of one's own do not matter here
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


@dataclasses.dataclass(frozen=True)
class Bfloat16Products:
    """``function`` of trees of arrays with its products in bfloat16; outputs have the types they had before.

    Keywords are static. Equal for equal functions, so that nothing recompiles. For evaluation: derivatives are those of
    the rounded program.
    """

    function: Callable[..., Tree]

    def __call__(self, *inputs: Tree, **options: Any) -> Tree:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), inputs)
        closed, outputs = jax.make_jaxpr(partial(self.function, **options), return_shape=True)(*shapes)
        flat = _run(closed.jaxpr, closed.consts, *jax.tree.leaves(inputs))
        return jax.tree.unflatten(jax.tree.structure(outputs), flat)


def _run(jaxpr: Jaxpr, constants: Sequence[Any], *inputs: Any) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        operands = [atom.val if isinstance(atom, Literal) else known[atom] for atom in equation.invars]
        known |= dict(zip(equation.outvars, _results(equation, operands), strict=True))
    return [atom.val if isinstance(atom, Literal) else known[atom] for atom in jaxpr.outvars]


def _results(equation: Any, operands: list[Any]) -> list[Any]:
    """One equation's results, of the types it has."""
    primitive, params = equation.primitive, equation.params
    if primitive.name in PRODUCTS and all(operand.dtype == jnp.float32 for operand in operands):
        return [_product(equation, operands)]
    inner = params.get(CALLS.get(primitive.name, ""))
    if inner is not None:
        return _run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), *operands)
    return alone(equation.replace(params={name: _rounded(value) for name, value in params.items()}), operands)


def alone(equation: Any, operands: list[Any]) -> list[Any]:
    """What one equation of a program gives, derivatives of its own included."""
    given = {
        atom: value for atom, value in zip(equation.invars, operands, strict=True) if not isinstance(atom, Literal)
    }
    program = Jaxpr((), list(given), equation.outvars, [equation], equation.effects)
    return jaxpr_as_fun(ClosedJaxpr(program, ()))(*given.values())


def _product(equation: Any, operands: list[Any]) -> Array:
    settings = equation.params | {"preferred_element_type": jnp.dtype(jnp.bfloat16)}
    result = equation.primitive.bind(*(jnp.asarray(operand, jnp.bfloat16) for operand in operands), **settings)
    return result.astype(equation.outvars[0].aval.dtype)


def _rounded(value: Any) -> Any:
    """A loop's body, or the branches of a condition, with their products in bfloat16; other settings as they are."""
    if isinstance(value, tuple) and any(isinstance(entry, ClosedJaxpr) for entry in value):
        return tuple(map(_rounded, value))
    if not isinstance(value, ClosedJaxpr):
        return value
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in value.in_avals]
    return jax.make_jaxpr(partial(_run, value.jaxpr, value.consts))(*shapes)
