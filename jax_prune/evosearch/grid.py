"""The oracle for two or three groups: a dense grid over all allocations of one budget.

Searches are judged by their distance to its best. It needs the same fitness, and thousands of evaluations.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.evosearch.evaluation import lift
from jax_prune.evosearch.objectives import BudgetLoss, kept_range
from jax_prune.types import Array


class Grid(NamedTuple):
    """Allocations int64 [M, G], each summing to the budget, their losses [M], and the best one."""

    kept: np.ndarray
    loss: np.ndarray
    best: np.ndarray
    best_loss: float


def search(fitness: BudgetLoss, points: int = 32, *, zooms: int = 2, at_once: int = 1) -> Grid:
    """Evaluates ``points`` counts a free group, evenly spaced in log, then grids around the best ``zooms``
    times.

    The largest group takes what is left of the budget; allocations outside the bounds are left out, so at
    most (1 + zooms) * points ** (G - 1) are evaluated. Raises BadInput for more than three groups,
    groups with steps or ties, and budgets of another cost than entries.
    """
    if fitness.cost is not None and fitness.cost.name == "weights":
        raise BadInput("a dense grid over groups with steps or ties: it is for single entries; use evosearch.search")
    if fitness.cost is not None:
        raise BadInput(f"a dense grid at a budget of {fitness.cost.name}: it is for entries; use evosearch.search")
    sizes, budget = fitness.masked.sizes, int(fitness.budget)
    if not 2 <= len(sizes) <= 3:
        raise BadInput(f"a dense grid over {len(sizes)} groups: it is for 2 or 3; use evosearch.search")
    least, most = kept_range(sizes, fitness.bounds)
    low, high = least.copy(), most.copy()
    kept, loss = np.zeros((0, len(sizes)), np.int64), np.zeros(0, np.float32)
    for _ in range(1 + zooms):
        new = _unseen(allocations(budget, least, most, low, high, points), kept)
        kept = np.concatenate([kept, new])
        loss = np.concatenate([loss, _losses(fitness, new, at_once, points)])
        low, high = _around(kept[np.nanargmin(loss)], low, high, least, most, points)
    index = int(np.nanargmin(loss))
    return Grid(kept, loss, kept[index], float(loss[index]))


def allocations(
    budget: int, least: np.ndarray, most: np.ndarray, low: np.ndarray, high: np.ndarray, points: int
) -> np.ndarray:
    """Distinct allocations int64 [M, G] that sum to the budget, all counts from ``least`` to ``most``.

    ``points`` counts from ``low`` to ``high`` for every group but the one with the highest ``most``.
    """
    rest = int(np.argmax(most))
    free = [group for group in range(len(most)) if group != rest]
    axes = [np.unique(np.geomspace(max(low[g], 1), max(high[g], 1), points).round()) for g in free]
    kept = np.zeros((math.prod(map(len, axes)), len(most)), np.int64)
    kept[:, free] = list(itertools.product(*axes))
    kept[:, rest] = budget - kept.sum(axis=1)
    return kept[((kept >= least) & (kept <= most)).all(axis=1)]


def _around(
    best: np.ndarray, low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two old steps to each side of the best."""
    factor = (np.maximum(high, 1) / np.maximum(low, 1)) ** (2 / max(points - 1, 1))
    return np.maximum(least, np.floor(best / factor)), np.minimum(most, np.ceil(best * factor))


def _unseen(new: np.ndarray, seen: np.ndarray) -> np.ndarray:
    known = set(map(tuple, seen))
    return np.array([row for row in new if tuple(row) not in known], np.int64).reshape(-1, new.shape[1])


def _losses(fitness: BudgetLoss, kept: np.ndarray, at_once: int, points: int) -> np.ndarray:
    """In blocks of ``points`` allocations, so that all grids share one compiled program."""
    if not len(kept):
        return np.zeros(0, np.float32)
    surplus = -len(kept) % points
    padded = np.concatenate([kept, np.repeat(kept[:1], surplus, axis=0)]).astype(np.int32)
    stacked = padded.reshape(-1, points, kept.shape[1])
    blocks = [_block(fitness, jnp.asarray(block), at_once) for block in stacked]
    return np.concatenate([np.asarray(block) for block in blocks])[: len(kept)]


@partial(jax.jit, static_argnames="at_once")
def _block(fitness: BudgetLoss, kept: Array, at_once: int) -> Array:
    return lift(fitness.loss, kept, at_once)
