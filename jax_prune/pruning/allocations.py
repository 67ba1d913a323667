"""Allocations that need no search: what evolved ratios have to beat, each at exactly the same budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.pruning.groups import gather, leaf_at
from jax_prune.types import Group, Tree


def uniform(lower: np.ndarray, upper: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray:
    """The same share of every group: kept int64 [G], summing to ``budget``."""
    return fill(sizes.astype(float), lower, upper, budget)


def erk(params: Tree, groups: Sequence[Group], lower: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    """Erdos-Renyi-kernel: density in proportion to the sum over the product of a kernel's sides (Evci et al. 2020)."""
    shapes = [np.shape(leaf_at(params, group.slots[0].path)) for group in groups]
    density = np.asarray([sum(shape) / np.prod(shape, dtype=float) for shape in shapes])
    return fill(density * [group.size for group in groups], lower, upper, budget)


def global_magnitude(scores: Sequence[ArrayLike], lower: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    """The budget's highest scores over all groups together; within the bounds, the best next ones."""
    return _by_score([np.asarray(score) for score in scores], lower, upper, budget)


def lamp(params: Tree, groups: Sequence[Group], lower: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    """Layer-adaptive magnitude: w**2 over the sum of squares of entries no smaller (Lee et al. 2021), then global."""
    scores = []
    for group in groups:
        square = np.sort(np.asarray(gather(params, group), np.float64) ** 2)
        scores.append(square / np.maximum(np.cumsum(square[::-1])[::-1], np.finfo(float).tiny))
    return _by_score(scores, lower, upper, budget)


def greedy(
    ratios: np.ndarray, loss: np.ndarray, lower: np.ndarray, upper: np.ndarray, sizes: np.ndarray, budget: int
) -> np.ndarray:
    """Down the sweeps of single groups, ever the step that costs least loss an entry, until the budget is met.

    ``ratios`` [K] ascend from 0, ``loss`` [G, K] is with that group alone pruned: Han et al. (2015) set thresholds by
    such sweeps, the rule is ours. The last step ends at the budget; where all sweeps end above it, ``fill`` goes on.
    """
    check(lower, upper, budget)
    shares = 1 - np.asarray(ratios, np.float64)
    points = np.clip(np.ceil(shares * sizes[:, None]), lower[:, None], upper[:, None]).astype(np.int64)
    freed = points[:, :-1] - points[:, 1:]
    with np.errstate(invalid="ignore"):
        rise = np.diff(np.where(np.isnan(loss), np.inf, loss).astype(np.float64))
    cost = np.where(freed > 0, np.maximum(np.where(np.isnan(rise), np.inf, rise), 0) / np.maximum(freed, 1), 0)
    place, kept = np.zeros(len(sizes), int), points[:, 0].copy()
    while kept.sum() > budget:
        ahead = np.flatnonzero(place < freed.shape[1])
        if not ahead.size:
            return fill(kept.astype(float), lower, kept, budget)
        chosen = ahead[np.argmin(cost[ahead, place[ahead]])]
        place[chosen] += 1
        kept[chosen] = max(points[chosen, place[chosen]], kept[chosen] - (kept.sum() - budget))
    return kept


def fill(weight: np.ndarray, lower: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    """Kept counts int64 [G] in proportion to ``weight``, within the bounds, summing to ``budget`` exactly."""
    check(lower, upper, budget)
    least, most = 0.0, float(budget + upper.sum()) / max(float(weight.min()), 1e-12)
    for _ in range(200):
        middle = (least + most) / 2
        if np.clip(middle * weight, lower, upper).sum() <= budget:
            least = middle
        else:
            most = middle
    kept = np.floor(np.clip(least * weight, lower, upper)).astype(np.int64)
    kept = np.clip(kept, lower, upper)
    return _topped_up(kept, least * weight - kept, upper, budget)


def check(lower: np.ndarray, upper: np.ndarray, budget: int) -> None:
    """Raises BadInput where no counts within the bounds can sum to ``budget``."""
    if budget < lower.sum():
        raise BadInput(
            f"budget {budget} is below the {int(lower.sum())} weights that the bounds keep (at least one a layer); "
            "ask for less compression or loosen the rules' upper bounds"
        )
    if budget > upper.sum():
        raise BadInput(
            f"budget {budget} is above the {int(upper.sum())} weights that the bounds allow; "
            "ask for more compression or loosen the rules' lower bounds"
        )


def _by_score(scores: Sequence[np.ndarray], lower: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    check(lower, upper, budget)
    kept = lower.astype(np.int64).copy()
    # each group's lower[g] best are in; the others, up to upper[g], compete
    rivals = [np.sort(score)[::-1][low:high] for score, low, high in zip(scores, lower, upper, strict=True)]
    owner = np.repeat(np.arange(len(rivals)), [len(rival) for rival in rivals])
    chosen = np.argsort(-np.concatenate(rivals), kind="stable")[: budget - int(kept.sum())]
    return kept + np.bincount(owner[chosen], minlength=len(rivals))


def _topped_up(kept: np.ndarray, remainder: np.ndarray, upper: np.ndarray, budget: int) -> np.ndarray:
    """Largest remainders first, a unit each, until the budget is met."""
    while missing := budget - int(kept.sum()):
        open_groups = np.flatnonzero(kept < upper)
        order = open_groups[np.argsort(-remainder[open_groups], kind="stable")][:missing]
        kept[order] += 1
    return kept
