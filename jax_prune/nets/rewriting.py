"""A function's program run with some of its equations replaced, without any cooperation of the function.

For evaluation: derivatives that a function defines for itself are not those of what runs here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jax_prune.types import Tree

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
Rule = Callable[[Any, list[Any]], list[Any] | None]  # an equation, its operands: its results, or None as it stands


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """``function`` of trees of arrays with the equations that ``rule`` knows replaced; outputs have their types.

    Keywords are static. Equal for equal functions and rules, so that nothing recompiles.
    """

    function: Callable[..., Tree]
    rule: Rule

    def __call__(self, *inputs: Tree, **options: Any) -> Tree:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), inputs)
        closed, outputs = jax.make_jaxpr(partial(self.function, **options), return_shape=True)(*shapes)
        flat = _run(self.rule, closed.jaxpr, closed.consts, *jax.tree.leaves(inputs))
        return jax.tree.unflatten(jax.tree.structure(outputs), flat)


def alone(equation: Any, operands: list[Any]) -> list[Any]:
    """What one equation of a program gives, derivatives of its own included."""
    given = {
        atom: value for atom, value in zip(equation.invars, operands, strict=True) if not isinstance(atom, Literal)
    }
    program = Jaxpr((), list(given), equation.outvars, [equation], equation.effects)
    return jaxpr_as_fun(ClosedJaxpr(program, ()))(*given.values())


def _run(rule: Rule, jaxpr: Jaxpr, constants: Sequence[Any], *inputs: Any) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        operands = [atom.val if isinstance(atom, Literal) else known[atom] for atom in equation.invars]
        known |= dict(zip(equation.outvars, _results(rule, equation, operands), strict=True))
    return [atom.val if isinstance(atom, Literal) else known[atom] for atom in jaxpr.outvars]


def _results(rule: Rule, equation: Any, operands: list[Any]) -> list[Any]:
    """One equation's results, of the types it has."""
    if (found := rule(equation, operands)) is not None:
        return found
    inner = equation.params.get(CALLS.get(equation.primitive.name, ""))
    if inner is not None:
        return _run(rule, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), *operands)
    params = {name: _rewritten(rule, value) for name, value in equation.params.items()}
    return alone(equation.replace(params=params), operands)


def _rewritten(rule: Rule, value: Any) -> Any:
    """A loop's body, or the branches of a condition, by the rule; other settings as they are."""
    if isinstance(value, tuple) and any(isinstance(entry, ClosedJaxpr) for entry in value):
        return tuple(_rewritten(rule, entry) for entry in value)
    if not isinstance(value, ClosedJaxpr):
        return value
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in value.in_avals]
    return jax.make_jaxpr(partial(_run, rule, value.jaxpr, value.consts))(*shapes)
