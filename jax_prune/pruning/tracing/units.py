"""From what a walk wrote down to units: connected positions, and why some of them stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jax_prune.pruning.tracing.ledger import Factoring, Ledger, Mark

PART = "part of a larger unit that is cut whole"
NEVER = np.iinfo(np.int64).max


class Units(NamedTuple):
    """``of`` int64 [N]: the unit of every id; ``reason`` int64 [U]: why it stays, in ``reasons``, or NEVER."""

    of: np.ndarray
    reason: np.ndarray
    reasons: tuple[str, ...]


def units(ledger: Ledger) -> Units:
    """Settles which parts of split axes are units, one wave of unambiguous cases after the other."""
    of = _connected(np.arange(ledger.count), ledger.count, ledger.pairs)
    marks, open_ = list(ledger.marks), list(ledger.factorings)
    while open_:
        frozen, mixed = _marked(of, marks), _marked(of, [mark for mark in marks if mark.mixes])
        choices = [_candidates(one, of, frozen, mixed) for one in open_]
        sure = [place for place, found in enumerate(choices) if len(found) < 2] or [0]
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for place in sure:
            _decide(open_[place], choices[place], of, frozen, pairs, marks)
        of = _connected(of, int(of.max()) + 1, [(of[left], of[right]) for left, right in pairs])
        open_ = [one for place, one in enumerate(open_) if place not in set(sure)]
    return _explained(of, marks)


def _connected(of: np.ndarray, count: int, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """``of`` [N], values below ``count``, after merging the values that ``pairs`` name."""
    if not pairs:
        return of
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)[of]


def _marked(of: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """bool [U]: the units that any of the marks touches."""
    found = np.zeros(int(of.max(initial=-1)) + 1, bool)
    if marks:
        found[of[np.concatenate([mark.ids for mark in marks])]] = True
    return found


def _candidates(one: Factoring, of: np.ndarray, frozen: np.ndarray, mixed: np.ndarray) -> list[int]:
    """The parts that could be the units; none where all or nothing is to stay."""
    parts = [(place, of[part]) for place, part in enumerate(one.parts) if part is not None]
    if any(mixed[part].any() for _, part in parts):
        return []
    return [place for place, part in parts if not frozen[part].all()]


def _decide(
    one: Factoring,
    candidates: list[int],
    of: np.ndarray,
    frozen: np.ndarray,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    marks: list[Mark],
) -> None:
    """The outermost candidate whose units stay apart is chosen; the other parts have no units of their own."""
    if not candidates:
        marks += _inherited(one, of, marks)
    chosen = next((place for place in candidates if _apart(one, place, of)), candidates[0] if candidates else None)
    for place, part in enumerate(one.parts):
        if part is None:
            continue
        if place == chosen:
            shape = [size if other == place else 1 for other, size in enumerate(one.sizes)]
            pairs.append((np.broadcast_to(part.reshape(shape), one.sizes).reshape(-1), one.whole))
        elif chosen is not None:
            marks.append(Mark(part, PART, False))


def _inherited(one: Factoring, of: np.ndarray, marks: Sequence[Mark]) -> list[Mark]:
    """Why the parts stay is why the whole does."""
    found = [part for part in one.parts if part is not None]
    touched = np.zeros(int(of.max()) + 1, bool)
    touched[of[np.concatenate(found)]] = True
    reason = next((mark.reason for mark in marks if touched[of[mark.ids]].any()), PART)
    return [Mark(ids, reason, False) for ids in (one.whole, *found)]


def _apart(one: Factoring, place: int, of: np.ndarray) -> bool:
    """No two units of the part would become one if it were chosen."""
    part = of[one.parts[place]]
    whole = np.moveaxis(of[one.whole].reshape(one.sizes), place, 0).reshape(len(part), -1)
    names, nodes = np.unique(np.concatenate([part, whole.reshape(-1)]), return_inverse=True)
    left = np.repeat(nodes[: len(part)], whole.shape[1])
    merged = _connected(np.arange(len(names)), len(names), [(left, nodes[len(part) :])])
    return len(np.unique(merged[nodes[: len(part)]])) == len(np.unique(part))


def _explained(of: np.ndarray, marks: Sequence[Mark]) -> Units:
    """The first reason that was written down for each unit."""
    reasons = tuple(dict.fromkeys(mark.reason for mark in marks))
    number = {reason: place for place, reason in enumerate(reasons)}
    reason = np.full(int(of.max(initial=-1)) + 1, NEVER)
    if marks:
        ids = np.concatenate([mark.ids for mark in marks])
        told = np.repeat([number[mark.reason] for mark in marks], [len(mark.ids) for mark in marks])
        np.minimum.at(reason, of[ids], told)
    return Units(of, reason, reasons)
