"""Gates on the channels of any network: factors by which a group's activations are multiplied where they are made.

No cooperation of the network is needed: its program is read (see ``gate_places``) and run with the products put in.
A gate of 1 changes nothing. A gate of 0 is a channel that is gone, as long as what lies between it and the next
product keeps a zero a zero, as ReLU, GELU, tanh, pooling do, and a sigmoid alone does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from jax_prune.errors import BadInput, said
from jax_prune.nets import gate_places
from jax_prune.nets.gate_places import INLINE, Found, Place
from jax_prune.nets.rewriting import alone
from jax_prune.types import Array, Group, Net, Tree

REMATERIALIZED = ("checkpoint", "remat2")


class Gated(NamedTuple):
    """A network with gates; ``apply(params, state, x, gates, *, train, key) -> (outputs, state)`` is pure and static.

    ``gates`` are G arrays, [n_g] or by example [B, n_g]. ``reasons`` [G] say why a group has no place for its gate,
    which then changes nothing, and are "" elsewhere; ``positions`` [G] how many activations of an example one gate
    scales: H * W of the largest place.
    """

    apply: Callable[..., tuple[Any, Tree]]
    groups: tuple[Group, ...]
    reasons: tuple[str, ...]
    positions: tuple[int, ...]


def gate(net: Net, groups: Sequence[Group], x: Tree) -> Gated:
    """``net`` with a gate on every unit of channel ``groups``; leaves of ``x`` [B, ...] are examples of its input.

    All places of a group, as the branches of a residual sum, have the same gate. Computes nothing. Raises BadInput
    for groups whose leaves the net does not have, and where the program is another one for another batch size.
    """
    _check(net.params, groups)
    groups, keys = tuple(groups), {False: None, True: jax.random.key(0)}  # with dropout, training may need one
    modes = [_found(net.apply, groups, _Spec.of((net.params, net.state, x, key)), train) for train, key in keys.items()]
    reasons = tuple(one or other for one, other in zip(*(found.reasons for found in modes), strict=True))
    return Gated(_Gated(net.apply, groups, reasons), groups, reasons, modes[1].positions)


def ones(groups: Sequence[Group]) -> tuple[Array, ...]:
    """Gates [n_g] that change nothing."""
    return tuple(jnp.ones(group.size) for group in groups)


class _Spec(NamedTuple):
    """Structure, shapes and types of trees: static and hashable."""

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, tree: Tree) -> _Spec:
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple((jnp.shape(leaf), _type(leaf)) for leaf in leaves))

    def shapes(self) -> Tree:
        return self.tree.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


@dataclasses.dataclass(frozen=True)
class _Gated:
    inner: Callable[..., tuple[Any, Tree]]
    groups: tuple[Group, ...]
    reasons: tuple[str, ...]

    def __call__(
        self, params: Tree, state: Tree, x: Tree, gates: Sequence[Array], *, train: bool, key: Array | None
    ) -> tuple[Any, Tree]:
        spec = _Spec.of((params, state, x, key))
        closed, outputs = jax.make_jaxpr(_program(self.inner, train), return_shape=True)(*spec.shapes())
        by_example = any(jnp.ndim(gate) == 2 for gate in gates)
        examples = jax.tree.leaves(x)[0].shape[0] if by_example else 1
        lines = [
            jnp.ones((examples, group.size)) if reason else jnp.broadcast_to(gate, (examples, group.size))
            for gate, group, reason in zip(gates, self.groups, self.reasons, strict=True)
        ]
        places: dict[tuple[int, ...], list[Place]] = {}
        for place in _found(self.inner, self.groups, spec, train).places:
            places.setdefault(place.path, []).append(place)
        run = _Run(places, jnp.concatenate([*lines, jnp.ones((examples, 1))], axis=1))
        given = [*closed.consts, *jax.tree.leaves((params, state, x, key))]
        return jax.tree.unflatten(jax.tree.structure(outputs), run.jaxpr(closed.jaxpr, (), *given))


def _program(inner: Callable[..., tuple[Any, Tree]], train: bool) -> Callable[..., tuple[Any, Tree]]:
    return lambda params, state, x, key: inner(params, state, x, train=train, key=key)


@lru_cache(maxsize=64)
def _found(inner: Callable[..., tuple[Any, Tree]], groups: tuple[Group, ...], spec: _Spec, train: bool) -> Found:
    params, state, x, key = spec.shapes()
    programs = []
    for size in gate_places.BATCHES:
        batch = gate_places.shapes_with_batch(x, size)
        try:
            programs.append(jax.make_jaxpr(_program(inner, train))(params, state, batch, key))
        except Exception as error:
            raise BadInput(f"gates: the net does not take {size} examples: {said(error)}") from error
    paths = ["/".join(str(name.key) for name in path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    rest = [len(jax.tree.leaves(tree)) for tree in (state, x, key)]
    inputs = [*[False] * (len(paths) + rest[0]), *[True] * rest[1], *[False] * rest[2]]
    return gate_places.find(programs, [*paths, *[None] * sum(rest)], inputs, groups)


class _Run(NamedTuple):
    """Runs a program with gates; ``line`` [B or 1, N + 1] are those of all groups, and a 1."""

    places: dict[tuple[int, ...], list[Place]]
    line: Array

    def jaxpr(self, jaxpr: Jaxpr, path: tuple[int, ...], *inputs: Any) -> list[Any]:
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))
        for number, equation in enumerate(jaxpr.eqns):
            operands = [atom.val if isinstance(atom, Literal) else known[atom] for atom in equation.invars]
            results = self.equation(equation, (*path, number), operands)
            known |= dict(zip(equation.outvars, results, strict=True))
        return [atom.val if isinstance(atom, Literal) else known[atom] for atom in jaxpr.outvars]

    def equation(self, equation: Any, path: tuple[int, ...], operands: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in INLINE and any(place[: len(path)] == path for place in self.places):
            body = equation.params[INLINE[name]]
            run: Callable[..., list[Any]] = partial(self.jaxpr, getattr(body, "jaxpr", body), path)
            if name in REMATERIALIZED:
                run = jax.checkpoint(run, policy=equation.params["policy"], prevent_cse=equation.params["prevent_cse"])
            return run(*getattr(body, "consts", ()), *operands)
        results = alone(equation, operands)
        for place in self.places.get(path, []):
            results[place.output] = self.scaled(results[place.output], place)
        return results

    def scaled(self, value: Array, place: Place) -> Array:
        """Activations times their gates."""
        axes = [axis for axis in range(value.ndim) if axis not in (place.examples, place.axis)]
        first, last = place.units[0], place.units[-1]
        along = place.units == tuple(range(first, last + 1))
        factor = self.line[:, first : last + 1] if along else self.line[:, np.asarray(place.units)]
        if place.axis < place.examples:
            factor = factor.T
        return value * jnp.expand_dims(factor, axes).astype(value.dtype)


def _type(leaf: Any) -> Any:
    """Random keys have a type that ``jnp.result_type`` does not take."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _check(params: Tree, groups: Sequence[Group]) -> None:
    leaves = {"/".join(str(name.key) for name in path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}
    for group in groups:
        if leaves.isdisjoint(slot.path for slot in group.slots):
            raise BadInput(f"group {group.name} has no slot in the parameters: are the groups of another net?")
