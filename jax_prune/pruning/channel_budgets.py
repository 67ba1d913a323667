"""Kept channels that several budgets allow, in the proportions that a genome asks for, with room for none more.

Costs of channels are products of what several groups keep, so no group has a share of a budget of its own. But they
never fall when a group keeps more: what has no room once, never has again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_costs, counts, lattice, wide
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.pruning.groups import sizes
from jax_prune.pruning.lattice import Lattice
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Bounds, Group

STEEPEST = 60.0  # log shares: what is further apart is all or one step
Fits = Callable[[Array], Array]  # levels int32 [V] -> bool


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


def kept_range(groups: Sequence[Group], bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most units int64 [G] that a group may keep: one step at least."""
    grid = lattice.of(groups)
    low, high = _level_range(grid, bounds)
    return tuple(np.minimum(np.asarray(level, np.int64) * grid.step, grid.size) for level in (low, high))  # type: ignore[return-value]


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
    """Kept counts int64 [G] in the proportions of ``shares`` [G], positive: ``project`` on the host, checked."""
    check(limits, groups, bounds)
    genome = np.log(np.asarray(shares, np.float64))[lattice.of(groups).lead].astype(np.float32)
    return np.asarray(_project(jnp.asarray(genome), tuple(groups), tuple(limits), bounds), np.int64)


def project(genome: Array, groups: Sequence[Group], limits: Sequence[Limit], bounds: Bounds) -> Array:
    """Kept counts int32 [G] within all ``limits``; whoever kept a step more would exceed one, or its bounds.

    ``genome`` float32 [V] is the log of each variable's wanted kept share, up to a common constant (see ``lattice``).
    The largest constant that fits is found by bisection, levels rounded to the nearest. Variables that would take the
    next step stop there, and the constant grows on for the others; so a second limit slows only those who spend of
    it. What several wanted at once is then given to one after the other, the dearest by the first limit first. Genome,
    limits and bounds may be traced. The caller sees to it that the fewest units fit (``check``).
    """
    grid = lattice.of(groups)
    low, high = _level_range(grid, bounds)
    fewest, most = low[grid.lead], high[grid.lead]

    def spent(level: Array, cost: ChannelCost) -> Wide:
        return cost.total(lattice.kept(grid, level, low, high))

    def fits(level: Array) -> Array:
        return jnp.stack([wide.at_most(spent(level, cost), budget) for cost, budget in limits]).all()

    genome = jnp.clip(jnp.nan_to_num(genome), -STEEPEST, STEEPEST)
    level = _grown(genome, grid, fewest, most, fits)
    cost, now = limits[0].cost, spent(level, limits[0].cost)
    more = jnp.minimum(level + jnp.eye(len(level), dtype=jnp.int32), most)
    dear = jax.vmap(lambda level: wide.to_float(wide.subtract(spent(level, cost), now)))(more)
    return lattice.kept(grid, _filled(level, most, jnp.argsort(-dear), fits, grid), low, high)


_project = jax.jit(project, static_argnums=1)


def _grown(genome: Array, grid: Lattice, fewest: Array, most: Array, fits: Fits) -> Array:
    """Levels int32 [V] in proportion, each as far as the common constant went before it had no room."""
    log_share = genome + np.log(grid.levels[grid.lead]).astype(np.float32)
    widest = jnp.max(jnp.abs(log_share)) + 23.0  # exp(23) > 2**31

    def grow(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        level, free, constant = state

        def at(constant: Array) -> Array:
            wanted = jnp.clip(jnp.round(jnp.exp(log_share + constant)), fewest, most).astype(jnp.int32)
            return jnp.where(free, jnp.maximum(wanted, level), level)

        def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
            left, right = interval
            middle = (left + right) / 2
            enough = fits(at(middle))
            return jnp.where(enough, middle, left), jnp.where(enough, right, middle)

        constant = jnp.where(fits(at(widest)), widest, constant)
        left, right = jax.lax.fori_loop(0, counts.BISECTIONS, halve, (constant, widest))
        level = at(left)
        return level, free & (at(right) == level) & (level < most), left

    start = fewest, most > fewest, -widest
    return jax.lax.while_loop(lambda state: state[1].any(), grow, start)[0]


def _filled(level: Array, most: Array, order: Array, fits: Fits, grid: Lattice) -> Array:
    """Levels [V] raised in an ``order`` int [V], each as far as it fits."""
    halvings = int(grid.levels.max()).bit_length()

    def raise_one(place: Array, level: Array) -> Array:
        one = order[place]

        def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
            least, largest = interval
            middle = least + (largest - least + 1) // 2
            enough = fits(level.at[one].set(middle))
            return jnp.where(enough, middle, least), jnp.where(enough, largest, middle - 1)

        return level.at[one].set(jax.lax.fori_loop(0, halvings, halve, (level[one], most[one]))[0])

    return jax.lax.fori_loop(0, len(level), raise_one, level)


def _level_range(grid: Lattice, bounds: Bounds) -> tuple[Array, Array]:
    """The fewest and the most levels int32 [G]; no group is emptied."""
    low, high = lattice.level_range(grid, bounds)
    return jnp.maximum(low, 1), jnp.maximum(high, 1)
