"""Where a program brings a group's units to the activations: the places at which gates belong.

Read from a jaxpr. A layer's leaves reach the activations in one product and some sums and products by channel
(bias, norm scale and shift). The gate belongs after the last of these: after batch norm where there is one, as in
Dynamic Channel Propagation (Shen et al. 2020), else after the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from jax_prune.errors import BadInput
from jax_prune.nets.leaf_axes import RULES, Axes
from jax_prune.nets.rewriting import CALLS, PRODUCTS
from jax_prune.types import Group, Slot, Tree

CUSTOM = {name: body for name, body in CALLS.items() if name.startswith("custom_")}
INLINE = {name: body for name, body in CALLS.items() if name not in CUSTOM}  # places inside can be reached

BATCHES = (2, 3)  # the sizes that a program is traced with; one would be an axis like any other


class Place(NamedTuple):
    """Output ``output`` of an equation, found by its number in the program and in the bodies it calls.

    ``axis`` has the units, ``examples`` the examples. ``units`` [length of the axis] says which entry of all groups'
    gates, one group after the other, holds there; one past the last where none does.
    """

    path: tuple[int, ...]
    output: int
    axis: int
    examples: int
    units: tuple[int, ...]


class Found(NamedTuple):
    """``places`` of all groups; of each group why it has none (then ""), and its largest place's positions a unit."""

    places: tuple[Place, ...]
    reasons: tuple[str, ...]
    positions: tuple[int, ...]


class Value(NamedTuple):
    """``leaves`` are the parameters in a value that no example has reached, by path; ``batched`` ones depend on x.

    ``pending`` are what was brought to a batched value and may yet be followed by more of the same layer.
    """

    leaves: dict[str, Axes]
    batched: bool
    pending: frozenset[_Brought]


class _Brought(NamedTuple):
    group: int
    place: Place
    inside: str  # the loop, branch or derivative of its own that hides the place
    variable: int  # identity of the equation's output, to see whether a hidden one is what the body gives


NOTHING = Value({}, False, frozenset())


def find(
    programs: Sequence[Any], paths: Sequence[str | None], inputs: Sequence[bool], groups: Sequence[Group]
) -> Found:
    """Places of ``groups`` in a program that was traced with two batch sizes: two ClosedJaxprs.

    ``paths`` name the invars that are parameters, ``inputs`` say which are x. Raises BadInput where the two differ in
    more than shapes.
    """
    search = _Search(groups)
    values = [
        Value({path: tuple(range(len(variable.aval.shape)))} if path else {}, is_input, frozenset())
        for path, is_input, variable in zip(paths, inputs, programs[0].jaxpr.invars, strict=True)
    ]
    outputs = search.walk([program.jaxpr for program in programs], values, (), "")
    search.settle(outputs)
    return search.found()


class _Search:
    def __init__(self, groups: Sequence[Group]):
        self.groups = groups
        self.offsets = np.cumsum([0, *(group.size for group in groups)])
        self.slots: dict[tuple[str, int], list[tuple[int, Slot]]] = {}
        for number, group in enumerate(groups):
            for slot in group.slots:
                if slot.axis is not None and not slot.state:
                    self.slots.setdefault((slot.path, slot.axis), []).append((number, slot))
        self.settled: dict[_Brought, None] = {}  # in the order of the program
        self.shapes: dict[tuple[tuple[int, ...], int], tuple[int, ...]] = {}
        self.lost: dict[int, str] = {}

    def walk(self, pair: Sequence[Any], values: Sequence[Value], path: tuple[int, ...], inside: str) -> list[Value]:
        """What the outputs of a jaxpr hold; ``pair`` is the same one for two batch sizes."""
        if not _alike(pair):
            raise BadInput("gates: the net's program is another one for another number of examples")
        known = dict(zip(pair[0].invars, values, strict=True))

        def read(atom: Any) -> Value:
            return NOTHING if isinstance(atom, Literal) else known.get(atom, NOTHING)

        for number, (equation, other) in enumerate(zip(pair[0].eqns, pair[1].eqns, strict=True)):
            operands = [read(atom) for atom in equation.invars]
            known.update(
                zip(equation.outvars, self.results((equation, other), operands, (*path, number), inside), strict=True)
            )
        return [read(atom) for atom in pair[0].outvars]

    def results(self, pair: Any, operands: list[Value], path: tuple[int, ...], inside: str) -> list[Value]:
        name = pair[0].primitive.name
        if name in INLINE:
            bodies = _bodies(pair, INLINE[name])
            return _renamed(self.walk(bodies, operands, path, inside), bodies[0], pair[0])
        if name in CUSTOM:
            return self.custom(_bodies(pair, CUSTOM[name]), pair, operands, path, inside)
        if name == "scan":
            first = pair[0].params["num_consts"] + pair[0].params["num_carry"]
            slices = [_without_first(value) for value in operands[first:]]
            return self.walk(_bodies(pair, "jaxpr"), [*operands[:first], *slices], path, inside or name)
        if name == "while":
            tests = pair[0].params["cond_nconsts"]
            return self.walk(_bodies(pair, "body_jaxpr"), operands[tests:], path, inside or name)
        if name == "cond":
            branches = zip(*(equation.params["branches"] for equation in pair), strict=True)
            given = [
                self.walk([branch.jaxpr for branch in both], operands[1:], path, inside or name) for both in branches
            ]
            return [_joined(values) for values in zip(*given, strict=True)]
        return self.plain(pair, operands, path, inside)

    def custom(
        self, bodies: Sequence[Any], pair: Any, operands: list[Value], path: tuple[int, ...], inside: str
    ) -> list[Value]:
        """A function with a derivative of its own stays whole: what it gives can be gated, not what is inside."""
        results = _renamed(self.walk(bodies, operands, path, inside or "derivative of its own"), bodies[0], pair[0])
        if inside:
            return results
        return [
            value._replace(pending=frozenset(self.lifted(entry, path, pair[0].outvars) for entry in value.pending))
            for value in results
        ]

    def lifted(self, entry: _Brought, path: tuple[int, ...], given: Sequence[Any]) -> _Brought:
        """The same behind the whole equation, where it is one of the values ``given`` by it."""
        for output, atom in enumerate(given):
            if entry.variable == id(atom):
                self.shapes[path, output] = atom.aval.shape
                return entry._replace(place=entry.place._replace(path=path, output=output), inside="")
        return entry

    def plain(self, pair: Any, operands: list[Value], path: tuple[int, ...], inside: str) -> list[Value]:
        equation = pair[0]
        name = equation.primitive.name
        rule = RULES.get(name)
        leaves = [operand.leaves for operand in operands]
        if rule:
            leaves = [
                {leaf: rule(equation, number, axes) for leaf, axes in own.items()} for number, own in enumerate(leaves)
            ]
        arrives = any(operand.batched for operand in operands)
        results = []
        for output, (atom, other) in enumerate(zip(equation.outvars, pair[1].outvars, strict=True)):
            batched = arrives and atom.aval.shape != other.aval.shape
            if any(leaves) and rule is None:
                self.lose(leaves, f"{name}, which is not followed")
            if not batched:
                merged = {leaf: axes for own in leaves for leaf, axes in own.items()}
                results.append(Value(merged if rule else {}, False, frozenset()))
                continue
            brought = self.brought(leaves, (atom, other), path, output, inside) if rule else frozenset()
            before = frozenset().union(*(operand.pending for operand in operands))
            if name in PRODUCTS:
                self.settle(operands)
                before = frozenset()
            followed = {entry.group for entry in brought}
            results.append(Value({}, True, brought | {entry for entry in before if entry.group not in followed}))
        return results

    def brought(
        self, leaves: list[dict[str, Axes]], pair: Any, path: tuple[int, ...], output: int, inside: str
    ) -> frozenset[_Brought]:
        """What an equation's parameters bring to its batched output, along which axis."""
        shape, others = (atom.aval.shape for atom in pair)
        examples = [axis for axis, (one, two) in enumerate(zip(shape, others, strict=True)) if one != two]
        found = set()
        for own in leaves:
            for leaf, axes in own.items():
                for axis, of_leaf in enumerate(axes):
                    for group, slot in self.slots.get((leaf, -1 if of_leaf is None else of_leaf), []):
                        if len(examples) != 1 or (shape[examples[0]], others[examples[0]]) != BATCHES:
                            self.lost[group] = f"{leaf} meets examples that share an axis with positions"
                            continue
                        place = Place(path, output, axis, examples[0], self.units(group, slot, shape[axis]))
                        self.shapes[path, output] = shape
                        found.add(_Brought(group, place, inside, id(pair[0])))
        return frozenset(found)

    def units(self, group: int, slot: Slot, length: int) -> tuple[int, ...]:
        """Of one group alone; see ``Place.units``."""
        line = np.full(length, self.offsets[-1])
        for start in slot.starts:
            line[start + slot.step * np.arange(self.groups[group].size)] = self.offsets[group] + np.arange(
                self.groups[group].size
            )
        return tuple(map(int, line))

    def lose(self, leaves: list[dict[str, Axes]], where: str) -> None:
        for own in leaves:
            for leaf, axes in own.items():
                for axis in axes:
                    for group, _ in self.slots.get((leaf, -1 if axis is None else axis), []):
                        self.lost[group] = f"{leaf} goes through {where}"

    def settle(self, values: Sequence[Value]) -> None:
        """No more of their layers follows: the values go into a product, or out of the program."""
        for value in values:
            if value.batched:
                ordered = sorted(value.pending, key=lambda entry: (entry.place.path, entry.group))
                self.settled.update(dict.fromkeys(ordered))

    def found(self) -> Found:
        reasons = [self.lost.get(number, "") for number in range(len(self.groups))]
        positions = [0] * len(self.groups)
        lines: dict[Place, np.ndarray] = {}
        for group, place, inside, _ in self.settled:
            if inside:
                reasons[group] = reasons[group] or f"a gate would belong inside a {inside}"
            shape = self.shapes[place.path, place.output] if not inside else (1,)
            positions[group] = max(positions[group], math.prod(shape) // (BATCHES[0] * len(place.units)))
        for number, own in enumerate(self.groups):
            if any(slot.axis is None for slot in own.slots):
                reasons[number] = "its units are single weights"
            elif not reasons[number] and not any(entry.group == number for entry in self.settled):
                reasons[number] = "none of its parameters is seen to reach the activations"
        for group, place, _, _ in self.settled:
            if not reasons[group]:
                where = place._replace(units=())
                lines[where] = np.minimum(lines.get(where, self.offsets[-1]), place.units)
        places = tuple(place._replace(units=tuple(map(int, line))) for place, line in lines.items())
        return Found(places, tuple(reasons), tuple(positions))


def shapes_with_batch(x: Tree, size: int) -> Tree:
    """Shapes like those of ``x``, every leaf's first axis being ``size``."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), x)


def _alike(pair: Sequence[Any]) -> bool:
    names = [[equation.primitive.name for equation in jaxpr.eqns] for jaxpr in pair]
    return names[0] == names[1]


def _bodies(pair: Any, name: str) -> list[Any]:
    return [getattr(inner, "jaxpr", inner) for inner in (equation.params[name] for equation in pair)]


def _without_first(value: Value) -> Value:
    return value._replace(leaves={leaf: axes[1:] for leaf, axes in value.leaves.items()})


def _joined(values: Sequence[Value]) -> Value:
    pending = frozenset().union(*(value.pending for value in values))
    leaves = {leaf: axes for value in values for leaf, axes in value.leaves.items()}
    return Value(leaves, any(value.batched for value in values), pending)


def _renamed(values: Sequence[Value], body: Any, equation: Any) -> list[Value]:
    """What a body gives is what its equation gives."""
    names = {id(inner): id(outer) for inner, outer in zip(body.outvars, equation.outvars, strict=True)}
    return [
        value._replace(
            pending=frozenset(
                entry._replace(variable=names.get(entry.variable, entry.variable)) for entry in value.pending
            )
        )
        for value in values
    ]
