"""Groups from units: those that appear in the same places are one group, written as arithmetic progressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jax_prune.pruning.layouts import layer_of
from jax_prune.pruning.tracing.leaves import LeafAxis, positions
from jax_prune.pruning.tracing.units import NEVER, Units
from jax_prune.types import Group, Slot

LAST = np.iinfo(np.int64).max


class Frozen(NamedTuple):
    """Units that stay: as many as ``group.size``, and why."""

    group: Group
    reason: str


class _Table(NamedTuple):
    """Equally placed units: ``place`` int64 [n, K] are their positions on the axes ``axes`` [K], ascending."""

    units: np.ndarray
    axes: np.ndarray
    place: np.ndarray


def grouped(units: Units, axes: Sequence[LeafAxis], produced: Sequence[np.ndarray]) -> tuple[list[Group], list[Frozen]]:
    """What can be cut and what stays, both in the order in which the program makes them."""
    born = _born(produced, sum(axis.size for axis in axes))
    found: list[tuple[int, int, int, Group, str]] = []
    for table in _tables(units, axes):
        reason = units.reason[table.units[0]]
        first, column = _producer(table, axes, born)
        for run in _runs(table):
            why = "" if reason == NEVER else units.reasons[reason]
            if len(run.units) == 1:
                why = why or "a single unit"
            slots = _slots(run, axes, column)
            group = Group(layer_of(slots[0].path), len(run.units), slots)
            found.append((first, int(table.axes[column]), slots[0].starts[0], group, why))
    entries = [entry[3:] for entry in sorted(found, key=lambda entry: entry[:3])]
    return _distinct([group for group, why in entries if not why]), [Frozen(*entry) for entry in entries if entry[1]]


def _tables(units: Units, axes: Sequence[LeafAxis]) -> list[_Table]:
    """One table for every set of axes on which units appear equally often, by the reason why they stay."""
    which, place = positions(axes)
    of = units.of[: len(which)]
    order = np.lexsort((place, which, of))
    starts = np.flatnonzero(np.diff(of[order], prepend=-1))
    if not len(starts):
        return []
    here = of[order][starts]
    # a sum of random numbers, one an axis, tells multisets of axes apart
    random = np.random.default_rng(0).integers(0, 2**63, (len(axes), 2), dtype=np.uint64)
    sums = np.add.reduceat(random[which[order]], starts, axis=0)
    signature = np.column_stack([sums, units.reason[here].astype(np.uint64)])
    _, kind = np.unique(signature, axis=0, return_inverse=True)
    counts = np.diff([*starts, len(order)])
    tables = []
    for members in _classes(kind.reshape(-1)):
        width = counts[members[0]]
        rows = order[starts[members][:, None] + np.arange(width)]
        tables.append(_Table(here[members], which[rows[0]], place[rows]))
    return tables


def _classes(kind: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(kind, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


def _born(produced: Sequence[np.ndarray], count: int) -> np.ndarray:
    """When a product first gave a leaf's positions as its outputs: int64 [N]."""
    born = np.full(count, LAST)
    for when in range(len(produced) - 1, -1, -1):
        ids = produced[when]
        born[ids[ids < count]] = when
    return born


def _producer(table: _Table, axes: Sequence[LeafAxis], born: np.ndarray) -> tuple[int, int]:
    """When the first product made these units, and the column of its leaf."""
    ids = np.asarray([axes[axis].first for axis in table.axes]) + table.place[0]
    column = int(np.argmin(born[ids]))
    return int(born[ids[column]]), column


def _runs(table: _Table) -> list[_Table]:
    """Units in the order of their positions, cut where the progression from one to the next changes."""
    order = np.argsort(table.place[:, 0])  # no two units share a position
    steps = np.diff(table.place[order], axis=0)
    runs, start = [], 0
    changes = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    for change in map(int, changes):
        if change >= start + 1:
            runs.append(order[start : change + 1])
            start = change + 1
    runs.append(order[start:])
    return [_Table(table.units[run], table.axes, table.place[run]) for run in runs if len(run)]


def _slots(table: _Table, axes: Sequence[LeafAxis], producer: int) -> tuple[Slot, ...]:
    """The producer's first, then as the leaves come; positions with different steps need a slot each."""
    steps = table.place[1] - table.place[0] if len(table.units) > 1 else np.ones(len(table.axes), np.int64)
    starts: dict[tuple[int, int], list[int]] = {}
    for axis, step, start in zip(table.axes, steps, table.place[0], strict=True):
        starts.setdefault((int(axis), int(step)), []).append(int(start))
    slots = {
        key: Slot(axes[key[0]].path, axes[key[0]].axis, tuple(found), key[1], axes[key[0]].state)
        for key, found in starts.items()
    }
    first = (int(table.axes[producer]), int(steps[producer]))
    return (slots[first], *(slot for key, slot in slots.items() if key != first))


def _distinct(groups: list[Group]) -> list[Group]:
    """Groups of one producer are numbered."""
    times: dict[str, int] = {}
    named = []
    for group in groups:
        count = times[group.name] = times.get(group.name, 0) + 1
        named.append(group if count == 1 else group._replace(name=f"{group.name}#{count}"))
    return named
