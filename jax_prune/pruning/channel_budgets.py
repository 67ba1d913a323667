"""Budgets of channels: the most that may be spent of each cost, whether that can be, and counts that keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_costs, channel_projection, lattice, wide
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.pruning.groups import sizes
from jax_prune.pruning.wide import Wide
from jax_prune.types import Bounds, Group


class Limit(NamedTuple):
    """The most that may be spent in all of one cost."""

    cost: ChannelCost
    budget: Wide


def limit(cost: ChannelCost, budget: int) -> Limit:
    """Of a budget as a Python integer; new ones never recompile."""
    return Limit(cost, wide.of(int(budget)))


def anything(groups: Sequence[Group]) -> Bounds:
    """Bounds of the ratios [G] under which a group may keep one step, or all."""
    return Bounds(np.zeros(len(groups), np.float32), np.ones(len(groups), np.float32))


def at_least(groups: Sequence[Group], fewest: ArrayLike) -> Bounds:
    """Bounds of the ratios [G] under which every group keeps ``fewest`` units int [G] or more, up to whole steps."""
    half = np.asarray(fewest, np.float64) - 0.5  # in the middle between two counts, where float32 rounds to neither
    return Bounds(np.zeros(len(groups), np.float32), (1 - half / sizes(groups)).astype(np.float32))


def kept_range(groups: Sequence[Group], bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most units int64 [G] that a group may keep: one step at least."""
    grid = lattice.of(groups)
    levels = channel_projection.level_range(grid, bounds)
    low, high = (np.minimum(np.asarray(level, np.int64) * grid.step, grid.size) for level in levels)
    return low, high


def check(limits: Sequence[Limit], groups: Sequence[Group], bounds: Bounds) -> None:
    """Raises BadInput for a budget below the least that the bounds allow, and where there are no limits."""
    if not limits:
        raise BadInput("no budget for the channels: give at least one limit(cost, budget)")
    fewest, _ = kept_range(groups, bounds)
    for cost, budget in limits:
        least, asked = channel_costs.spent(cost, fewest), int(wide.to_numpy(budget))
        if asked < least:
            whole = channel_costs.spent(cost, sizes(groups))
            raise BadInput(
                f"budget {asked} of {whole} {cost.name} cannot be met: {least} are left when each of the {len(groups)} "
                "groups keeps the fewest channels that it may, with what no group holds; ask for more, or loosen bounds"
            )


def onto(limits: Sequence[Limit], groups: Sequence[Group], bounds: Bounds, shares: ArrayLike) -> np.ndarray:
    """Kept counts int64 [G] in the proportions of ``shares`` [G], positive: ``channel_projection.project``, checked."""
    check(limits, groups, bounds)
    genome = np.log(np.asarray(shares, np.float64))[lattice.of(groups).lead].astype(np.float32)
    return np.asarray(_project(jnp.asarray(genome), tuple(groups), tuple(limits), bounds), np.int64)


_project = jax.jit(channel_projection.project, static_argnums=1)
