"""What a network makes of its input before any parameter comes in, done once instead of in every candidate.

Read from the jaxpr of evaluation mode: scaling of pixels, a reshape, a transposition. Where the first thing to
touch a parameter is a product of that with one kernel, the rest can also start from the product.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

from jax_prune import storage
from jax_prune.types import Array, Net, Tree

GROWTH = 4  # of the input's bytes, as from pixels to float32: where more would be kept nothing is done beforehand
PLAIN_PRODUCT = (((1,), (0,)), ((), ()))  # [b, D] times [D, H]


class Hoisted(NamedTuple):
    """``prefix(x)`` gives a tuple of arrays, and ``apply`` takes it in place of x; both equal for equal programs."""

    prefix: Callable[[Tree], tuple[Array, ...]]
    apply: Callable[..., tuple[Any, Tree]]


class FirstProduct(NamedTuple):
    """``values[place]`` [b, D] of a prefix is multiplied by the kernel [D, H] at ``path``, and neither by another.

    ``apply(params, state, values, product)`` gives the outputs from the product [b, H].
    """

    path: str
    place: int
    apply: Callable[[Tree, Tree, tuple[Array, ...], Array], Any]


def hoist(net: Net, x: Tree) -> Hoisted:
    """For inputs of the shapes and types of ``x``, leaves [b, ...], in evaluation mode alone."""
    traced = _Traced(net.apply, _spec(net.params), _spec(net.state), _spec(x))
    return Hoisted(_Prefix(traced), _Rest(traced))


def first_product(hoisted: Hoisted, params: Tree) -> FirstProduct | None:
    """None where there is no such product, as before a convolution."""
    traced = hoisted.apply.traced  # type: ignore[attr-defined]
    split = _split(traced)
    if split.product is None:
        return None
    kernel = split.rest.jaxpr.invars.index(split.product.invars[1])
    paths = [path for path in storage.flatten_paths(storage.sorted_tree(params)) if not path.endswith("/")]
    return FirstProduct(paths[kernel], split.boundary.index(split.product.invars[0]), _FromProduct(traced))


class _Spec(NamedTuple):
    """A tree's structure, and shape and type of its leaves: static and hashable."""

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    def shapes(self) -> Tree:
        return self.tree.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


@dataclasses.dataclass(frozen=True)
class _Traced:
    """Which program is meant: compares equal for equal architectures and shapes, so that nothing recompiles."""

    apply: Any
    params: _Spec
    state: _Spec
    x: _Spec


class _Split(NamedTuple):
    prefix: ClosedJaxpr
    rest: ClosedJaxpr
    boundary: list[Var]
    product: Any  # the equation, or None
    outputs: Any


@dataclasses.dataclass(frozen=True)
class _Prefix:
    traced: _Traced

    def __call__(self, x: Tree) -> tuple[Array, ...]:
        return tuple(jaxpr_as_fun(_split(self.traced).prefix)(*jax.tree.leaves(x)))


@dataclasses.dataclass(frozen=True)
class _Rest:
    traced: _Traced

    def __call__(self, params: Tree, state: Tree, values: Any, *, train: bool, key: Any) -> tuple[Any, Tree]:
        assert not train and key is None, "a hoisted net is for evaluation"
        split = _split(self.traced)
        flat = jaxpr_as_fun(split.rest)(*jax.tree.leaves((params, state)), *values)
        return split.outputs.unflatten(flat), state


@dataclasses.dataclass(frozen=True)
class _FromProduct:
    traced: _Traced

    def __call__(self, params: Tree, state: Tree, values: Any, product: Array) -> Any:
        split = _split(self.traced)
        equations = [equation for equation in split.rest.jaxpr.eqns if equation is not split.product]
        invars = [*split.rest.jaxpr.invars, *split.product.outvars]
        rest = ClosedJaxpr(_jaxpr(split.rest.jaxpr, invars, split.rest.jaxpr.outvars, equations), split.rest.consts)
        return split.outputs.unflatten(jaxpr_as_fun(rest)(*jax.tree.leaves((params, state)), *values, product))


@lru_cache(maxsize=32)
def _split(traced: _Traced) -> _Split:
    def forward(params: Tree, state: Tree, x: Tree) -> Any:
        return traced.apply(params, state, x, train=False, key=None)[0]

    shapes = [spec.shapes() for spec in (traced.params, traced.state, traced.x)]
    closed, outputs = jax.make_jaxpr(forward, return_shape=True)(*shapes)
    jaxpr = closed.jaxpr
    count = len(traced.params.leaves) + len(traced.state.leaves)
    given, inputs = jaxpr.invars[:count], jaxpr.invars[count:]
    early, known = [], {*inputs, *jaxpr.constvars}
    for equation in jaxpr.eqns:
        needs = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        if not equation.effects and needs and all(atom in known for atom in needs) and not known.isdisjoint(needs):
            early.append(equation)
            known.update(equation.outvars)
    late, boundary = _cut(jaxpr, early, known - set(jaxpr.constvars))
    if _bytes(boundary) > GROWTH * _bytes(inputs):
        early = []
        late, boundary = _cut(jaxpr, early, set(inputs))
    return _Split(
        ClosedJaxpr(_jaxpr(jaxpr, inputs, boundary, early), closed.consts),
        ClosedJaxpr(_jaxpr(jaxpr, [*given, *boundary], jaxpr.outvars, late), closed.consts),
        boundary,
        _product(late, boundary, given[: len(traced.params.leaves)], jaxpr.outvars),
        jax.tree.structure(outputs),
    )


def _cut(jaxpr: Jaxpr, early: list[Any], known: set[Var]) -> tuple[list[Any], list[Var]]:
    """The equations beside the ``early`` ones, and which of the ``known`` values they need."""
    late = [equation for equation in jaxpr.eqns if all(equation is not other for other in early)]
    needed = [atom for equation in late for atom in equation.invars] + list(jaxpr.outvars)
    return late, list(dict.fromkeys(atom for atom in needed if not isinstance(atom, Literal) and atom in known))


def _bytes(variables: list[Var]) -> int:
    shapes: list[Any] = [variable.aval for variable in variables]
    return sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)


def _product(equations: list[Any], boundary: list[Var], params: list[Var], outputs: list[Any]) -> Any:
    """The one equation that takes a boundary value, if it multiplies it by a kernel that nothing else uses."""
    for value in boundary:
        users = [equation for equation in equations if any(atom is value for atom in equation.invars)]
        if len(users) != 1 or users[0].primitive.name != "dot_general" or any(atom is value for atom in outputs):
            continue
        left, right = users[0].invars
        dimensions = jax.tree.map(int, users[0].params["dimension_numbers"])
        plain = tuple(tuple(map(tuple, part)) for part in dimensions) == PLAIN_PRODUCT
        alone = [equation for equation in equations if any(atom is right for atom in equation.invars)] == users
        if left is value and plain and alone and any(right is leaf for leaf in params):
            return users[0]
    return None


def _jaxpr(like: Jaxpr, inputs: list[Var], outputs: list[Any], equations: list[Any]) -> Jaxpr:
    return Jaxpr(like.constvars, inputs, outputs, equations, like.effects)


def _spec(tree: Tree) -> _Spec:
    leaves, structure = jax.tree.flatten(tree)
    return _Spec(structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))
