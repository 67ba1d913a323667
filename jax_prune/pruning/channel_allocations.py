"""Allocations of channels that need no search, each on exactly the limits that a search has to keep.

Which channels stay then goes by the scores that the caller ranks them by. The field's usual pairs:

    uniform L1                       uniform(...), ranked by magnitude(params, groups)
    global L1                        by_score(magnitude(params, groups), ...), ranked by the same
    Torch-Pruning, local (default)   uniform(...), ranked by group_magnitude(params, groups)
    Torch-Pruning, global            by_score(group_magnitude(params, groups), ...), ranked by the same
    LAMP on channels, global         by_score(lamp(group_magnitude(params, groups)), ...), ranked by the same
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.pruning import allocations, channel_budgets, channel_costs, thresholds, wide
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.pruning.groups import sizes
from jax_prune.types import Array, Bounds, Group


def uniform(groups: Sequence[Group], limits: Sequence[Limit], bounds: Bounds) -> np.ndarray:
    """The same share of every group: kept counts int64 [G] within the limits, with room for no step more."""
    return channel_budgets.onto(limits, groups, bounds, np.ones(len(groups)))


def by_score(
    scores: Sequence[ArrayLike], groups: Sequence[Group], limits: Sequence[Limit], bounds: Bounds
) -> np.ndarray:
    """The highest scores [n_g] over all groups together, as many as the limits pay for: kept counts int64 [G].

    What they leave over goes to all in proportion. Several limits are met as in ``thresholds.within``, and then the
    bounds as in ``channel_projection.project``.
    Raises BadInput for budgets that no counts meet, and for scores that do not fit the groups or are not finite.
    """
    values = [np.asarray(score, np.float64) for score in scores]
    if [len(value) for value in values] != [group.size for group in groups]:
        raise BadInput(f"{len(values)} scores for {len(groups)} groups: give one score [n_g] for each group")
    for value, group in zip(values, groups, strict=True):
        if not np.isfinite(value).all():
            raise BadInput(f"scores of group {group.name} are not all finite: give numbers")
    channel_budgets.check(limits, groups, bounds)
    if len(limits) > 1:
        flags = _above(tuple(jnp.asarray(value, jnp.float32) for value in values), tuple(groups), tuple(limits))
        return channel_budgets.onto(limits, groups, bounds, np.asarray([np.mean(flag) for flag in flags]))
    lower, upper = channel_budgets.kept_range(groups, bounds)

    def best(count: int) -> np.ndarray:
        return allocations.global_magnitude(values, lower, upper, count)

    fewest, most = int(lower.sum()), int(upper.sum())
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if _within(limits, best(middle)):
            fewest = middle
        else:
            most = middle - 1
    return channel_budgets.onto(limits, groups, bounds, best(fewest) / sizes(groups))


@partial(jax.jit, static_argnums=1)
def _above(scores: tuple[Array, ...], groups: tuple[Group, ...], limits: tuple[Limit, ...]) -> tuple[Array, ...]:
    return thresholds.within(scores, groups, limits, [True] * len(groups))


def _within(limits: Sequence[Limit], kept: np.ndarray) -> bool:
    return all(channel_costs.spent(cost, kept) <= int(wide.to_numpy(budget)) for cost, budget in limits)
