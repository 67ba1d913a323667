"""What a walk over a program writes down: which positions are one unit, which may not be cut, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_prune.pruning.tracing.labels import FREE, Axis


class Mark(NamedTuple):
    """Units that stay. ``mixes``: what they are parts of stays too, as under a norm over them."""

    ids: np.ndarray
    reason: str
    mixes: bool


class Factoring(NamedTuple):
    """One axis ``whole`` [n] is read as several, ``parts`` [n_1], [n_2], ... in C order, None where no unit lies.

    Which of the parts are the units is open until everything is known.
    """

    whole: np.ndarray
    sizes: tuple[int, ...]
    parts: tuple[np.ndarray | None, ...]


class Ledger:
    """Grows while a program is walked; ``place`` and ``back_to`` undo a trial walk over a loop's body."""

    def __init__(self) -> None:
        self.count = 0
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self.marks: list[Mark] = []
        self.factorings: list[Factoring] = []
        self.produced: list[np.ndarray] = []

    def fresh(self, size: int) -> np.ndarray:
        """New units int64 [size]."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def union(self, left: np.ndarray, right: np.ndarray) -> None:
        """Position by position the same units."""
        if left is not right:
            self.pairs.append((left, right))

    def freeze(self, axis: Axis, reason: str, mixes: bool = False) -> None:
        """The units of an axis, if it has any, are not to be cut."""
        if axis.ids is not None:
            self.marks.append(Mark(axis.ids, reason, mixes))

    def join(self, axes: Sequence[Axis], name: str, zero: bool = False) -> Axis:
        """What an operation ``name`` makes of axes [n] that it takes position by position."""
        units = [axis.ids for axis in axes if axis.ids is not None]
        others = [axis.what for axis in axes if axis.what]
        if not units:
            return Axis(what=others[0]) if others else FREE
        for other in units[1:]:
            self.union(units[0], other)
        joined = Axis(units[0], zero)
        if others:
            self.freeze(joined, f"{name} with {others[0]}")
        return joined

    def factor(self, whole: np.ndarray, sizes: Sequence[int], parts: Sequence[np.ndarray | None]) -> None:
        """See ``Factoring``."""
        self.factorings.append(Factoring(whole, tuple(sizes), tuple(parts)))

    def produce(self, axis: Axis) -> None:
        """A product just gave this axis its units: who comes first names them."""
        if axis.ids is not None:
            self.produced.append(axis.ids)

    def place(self) -> tuple[int, ...]:
        """To give to ``back_to``."""
        return len(self.pairs), len(self.marks), len(self.factorings), len(self.produced)

    def back_to(self, place: tuple[int, ...]) -> None:
        """Forgets what was written since."""
        written: tuple[list[Any], ...] = (self.pairs, self.marks, self.factorings, self.produced)
        for entries, length in zip(written, place, strict=True):
            del entries[length:]
