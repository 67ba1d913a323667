"""A genome onto budgets of channels: counts in the proportions asked for, within every budget, with room for none more.

Costs of channels are products of what several groups keep, so no group has a share of a budget of its own. But they
never fall when a group keeps more: what has no room once, never has again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.pruning import counts, lattice, tolls, wide
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.pruning.lattice import Lattice
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Bounds, Group

Limits = Sequence[tuple[ChannelCost, Wide]]  # the most that may be spent in all of each cost
STEEPEST = 60.0  # log shares: what is further apart is all or one step
BENDINGS = 20  # halvings of ``STEEPEST``


def project(genome: Array, groups: Sequence[Group], limits: Limits, bounds: Bounds) -> Array:
    """Kept counts int32 [G] within all ``limits``; whoever kept a step more would exceed one, or its bounds.

    ``genome`` float32 [V] is the log of each variable's wanted kept share, up to a common constant (see ``lattice``).
    The largest constant that fits is found by bisection, levels rounded to the nearest. Variables that would take the
    next step stop there, and the constant grows on for the others. What several wanted at once is then given to one
    after the other, the dearest first.

    The first limit is the one to be met. Where the others would not let it, those who spend most of the others for
    what they spend of the first keep less, by as little as will do (``_bent``); where nothing will, the others decide.
    Genome, limits and bounds may be traced. The caller sees to it that the fewest units fit
    (``channel_budgets.check``).
    """
    grid = lattice.of(groups)
    levels = _Levels(grid, *level_range(grid, bounds))
    genome = jnp.clip(jnp.nan_to_num(genome), -STEEPEST, STEEPEST)
    if len(limits) > 1:
        genome = _bent(levels, genome, limits)
    level = _grown(levels, genome, limits)
    return levels.kept(_filled(levels, level, limits))


def level_range(grid: Lattice, bounds: Bounds) -> tuple[Array, Array]:
    """The fewest and the most levels int32 [G]; no group is emptied."""
    low, high = lattice.level_range(grid, bounds)
    return jnp.maximum(low, 1), jnp.maximum(high, 1)


class _Levels(NamedTuple):
    """What levels int32 [V] of the variables stand for, with those that the groups may have, [G]."""

    grid: Lattice
    low: Array
    high: Array

    @property
    def fewest(self) -> Array:
        return self.low[self.grid.lead]

    @property
    def most(self) -> Array:
        return self.high[self.grid.lead]

    def kept(self, level: Array) -> Array:
        return lattice.kept(self.grid, level, self.low, self.high)

    def fits(self, level: Array, limits: Limits) -> Array:
        kept = self.kept(level)
        return jnp.stack([wide.at_most(cost.total(kept), budget) for cost, budget in limits]).all()

    def at(self, genome: Array, constant: Array) -> Array:
        shares = jnp.exp(genome + constant) * self.grid.levels[self.grid.lead]
        return jnp.clip(jnp.round(shares), self.fewest, self.most).astype(jnp.int32)

    def widest(self, genome: Array) -> Array:
        """A constant at which every level is the most, and less than which none is above the fewest."""
        return jnp.max(jnp.abs(genome)) + 23.0  # exp(23) > 2**31

    def beside(self, level: Array) -> tuple[Array, Array]:
        """Counts int32 [V, G] with each variable a level higher, and a level lower."""
        own = jnp.eye(len(level), dtype=jnp.int32)
        more, less = jnp.minimum(level + own, self.most), jnp.maximum(level - own, self.fewest)
        return jax.vmap(self.kept)(more), jax.vmap(self.kept)(less)


def _bent(levels: _Levels, genome: Array, limits: Limits) -> Array:
    """The genome with what meets the first limit within the others, bent as little as that takes."""
    chosen, others = limits[:1], limits[1:]

    def meeting(genome: Array) -> Array:
        widest = levels.widest(genome)
        constant, _ = bisected(lambda c: levels.fits(levels.at(genome, c), chosen), -widest, widest)
        return levels.at(genome, constant)

    toll = tolls.of(limits, *levels.beside(meeting(genome)))

    def met(bend: Array) -> Array:
        return levels.fits(meeting(genome - bend * toll), others)

    ends = jnp.float32([0, STEEPEST])
    needless, enough = jax.vmap(met)(ends)
    _, bend = bisected(lambda bend: ~met(bend), ends[0], ends[1], BENDINGS)
    return genome - jnp.where(~needless & enough, bend, 0) * toll


def _grown(levels: _Levels, genome: Array, limits: Limits) -> Array:
    """Levels int32 [V] in proportion, each as far as the common constant went before it had no room."""
    widest = levels.widest(genome)

    def grow(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        level, free, constant = state

        def at(constant: Array) -> Array:
            return jnp.where(free, jnp.maximum(levels.at(genome, constant), level), level)

        left, right = bisected(lambda c: levels.fits(at(c), limits), constant, widest)
        grown = at(left)
        return grown, free & (at(right) == grown) & (grown < levels.most), left

    start = levels.fewest, levels.most > levels.fewest, -widest
    return jax.lax.while_loop(lambda state: state[1].any(), grow, start)[0]


def _filled(levels: _Levels, level: Array, limits: Limits) -> Array:
    """Levels [V] raised one after the other, the dearest by the first limit first, each as far as it fits."""
    order = jnp.argsort(-tolls.differences(limits[0][0], *levels.beside(level)))
    halvings = int(levels.grid.levels.max()).bit_length()

    def raise_one(place: Array, level: Array) -> Array:
        one = order[place]

        def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
            least, largest = interval
            middle = least + (largest - least + 1) // 2
            enough = levels.fits(level.at[one].set(middle), limits)
            return jnp.where(enough, middle, least), jnp.where(enough, largest, middle - 1)

        raised, _ = jax.lax.fori_loop(0, halvings, halve, (level[one], levels.most[one]))
        return level.at[one].set(raised)

    return jax.lax.fori_loop(0, len(level), raise_one, level)


def bisected(
    holds: Callable[[Array], Array], left: Array, right: Array, halvings: int = counts.BISECTIONS
) -> tuple[Array, Array]:
    """The end of where a condition holds: up to the first value it does, from the second on it does not.

    It holds at ``left``; where it does at ``right`` too, both are that.
    """

    def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = interval
        middle = (left + right) / 2
        enough = holds(middle)
        return jnp.where(enough, middle, left), jnp.where(enough, right, middle)

    return jax.lax.fori_loop(0, halvings, halve, (jnp.where(holds(right), right, left), right))
