"""The two questions about a network: least loss at a budget, and most compression at a tolerance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.evosearch import arguments
from jax_prune.evosearch.masked import Candidate, MaskedLoss
from jax_prune.evosearch.racing import Sums
from jax_prune.evosearch.score import Score
from jax_prune.pruning import budgets, counts, lattice, wide
from jax_prune.pruning.budgets import Cost, Total
from jax_prune.types import Array, Bounds, Group

ROUNDING = 1e-6  # a float32 mean may miss the share it stands for by this much


class OverExamples:
    """A fitness whose sums over the calibration data are those of ``masked``: what is ``racing.Summed`` of it."""

    masked: MaskedLoss

    def __call__(self, genome: Array) -> Score:
        kept = self.kept(genome)
        return self.bound(kept, self.masked.sums(kept), self.chunk_count)

    @property
    def chunk_count(self) -> int:
        """N, the chunks of the calibration data."""
        return self.masked.chunk_count

    def kept(self, genome: Array) -> Array:
        raise NotImplementedError

    def prepare(self, kept: Array) -> Candidate:
        return self.masked.prepare(kept)

    def part(self, candidate: Candidate, index: Array) -> Sums:
        return self.masked.part(candidate, index)

    def bound(self, kept: Array, sums: Sums, done: Array | int) -> Score:
        raise NotImplementedError

    def shuffled(self, key: Array) -> Self:
        """With the examples in random order."""
        return dataclasses.replace(self, masked=self.masked.shuffled(key))  # type: ignore[type-var]

    def shortened(self, count: int) -> Self:
        """With the first ``count`` chunks of examples alone."""
        return dataclasses.replace(self, masked=self.masked.shortened(count))  # type: ignore[type-var]


class MeanLoss(OverExamples):
    """Whose value is the mean loss, so that a sum of losses that is too high decides early."""

    def loss(self, kept: Array) -> Array:
        """Mean loss of an allocation int32 [G], whatever it sums to."""
        return self.masked(kept).loss

    def bound(self, kept: Array, sums: Sums, done: Array | int) -> Score:
        """The loss so far, spread over all examples: losses are not negative. A collapsed network is infeasible."""
        return Score(sums.loss / self.masked.examples, self.masked.collapsed(sums, done))

    def arranged(self, kept: Array) -> tuple[Self, Array]:
        """What these counts lose most on comes first; True where no loss is negative."""
        masked, means = self.masked.arranged(kept, lambda means: (-means.loss,))
        return dataclasses.replace(self, masked=masked), jnp.all(means.loss >= 0)  # type: ignore[type-var]

    is_mean = True


class OverRatios:
    """Whose genome [V] is the pruning ratios themselves, tied groups having one, within ``bounds``."""

    masked: MaskedLoss
    bounds: Bounds

    @property
    def box(self) -> Bounds:
        """The box [V] of the genomes: the tightest bounds of tied groups."""
        return lattice.variable_bounds(lattice.of(self.masked.groups), self.bounds)

    def kept(self, genome: Array) -> Array:
        """int32 [G]: n - floor(ratio * n), exactly, and whole steps of it."""
        grid = lattice.of(self.masked.groups)
        lattice.check_length(grid, genome)
        return lattice.kept_at(grid, genome, self.bounds)


@flax.struct.dataclass
class BudgetLoss(MeanLoss):
    """Fitness: the loss of the network with what ``budget`` allows, infeasible where it has collapsed.

    Make it with ``budget_loss`` and search it in ``box``. A genome [V] is the logarithm of each group's kept share, up
    to a common factor, tied groups having one entry: ``kept`` moves it onto the budget, inside the ``bounds`` of the
    ratios. Without a ``cost`` the budget is a number of entries, met exactly; with one it is the most that may be
    spent beside the cost's base.
    """

    masked: MaskedLoss
    budget: Any  # int32, or Wide with a cost
    bounds: Bounds  # of the ratios
    cost: Cost | None = None

    @property
    def box(self) -> Bounds:
        """The box [V] of the genomes."""
        return genome_box(self.masked.groups, self.bounds)

    def kept(self, genome: Array) -> Array:
        """int32 [G], summing to the budget, or costing at most the budget with room for no step more."""
        lattice.check_length(lattice.of(self.masked.groups), genome)
        if self.cost is None:
            return counts.project(genome, self.masked.sizes, self.budget, self.bounds)
        return budgets.project(genome, self.masked.groups, self.cost, self.budget, self.bounds)


@flax.struct.dataclass
class Tolerance(OverRatios, OverExamples):
    """Fitness: the share of entries kept, feasible while the metric's mean is at least ``floor`` and outputs vary.

    A genome [V] is the pruning ratios themselves, tied groups having one. Make it with ``tolerance``; search it in
    ``box``.
    """

    masked: MaskedLoss
    floor: Array  # float32
    bounds: Bounds  # of the ratios

    def bound(self, kept: Array, sums: Sums, done: Array | int) -> Score:
        """The share is known beforehand; no example that is still to come adds more than 1 to the metric.

        A collapsed network is infeasible.
        """
        counted = jnp.sum(self.masked.weights, axis=1)
        left = jnp.sum(jnp.where(jnp.arange(len(counted)) < done, 0, counted))
        most = (sums.metric + left) / self.masked.examples
        return Score(self._share(kept), jnp.maximum(0.0, self.floor - most) + self.masked.collapsed(sums, done))

    def arranged(self, kept: Array) -> tuple[Tolerance, Array]:
        """What these counts get wrong comes first; True where no example's metric is above 1."""
        masked, means = self.masked.arranged(kept, lambda means: (-means.loss, means.metric))
        return dataclasses.replace(self, masked=masked), jnp.all(means.metric <= 1)

    is_mean = False

    def _share(self, kept: Array) -> Array:
        sizes = jnp.asarray(self.masked.sizes, jnp.float32)
        return jnp.sum(kept.astype(jnp.float32)) / jnp.sum(sizes)


def budget_loss(masked: MaskedLoss, budget: int, bounds: Bounds, cost: Cost | None = None) -> BudgetLoss:
    """Least loss with ``budget`` entries kept, or where a ``cost`` (see ``pruning.budgets``) is at most ``budget``.

    Groups with steps above 1, or tied, keep at most the budget. Raises BadInput for a budget that no allocation within
    the bounds of the ratios meets.
    """
    least, most = reachable(masked.groups, bounds, cost)
    if budget < least or (cost is None and budget > most):
        unit = "kept entries" if cost is None else cost.name
        raise BadInput(f"budget {budget} cannot be met: the bounds allow {least} to {most} {unit}")
    if cost is None and lattice.fine(masked.groups):
        return BudgetLoss(masked, jnp.asarray(budget, jnp.int32), arguments.box(bounds))
    cost = budgets.weights(masked.groups) if cost is None else cost
    return BudgetLoss(masked, wide.of(budget - int(wide.to_numpy(cost.base))), arguments.box(bounds), cost)


def tolerance(masked: MaskedLoss, reference: float, allowed: float, bounds: Bounds | None = None) -> Tolerance:
    """The metric may be ``allowed`` below ``reference``, both means in the metric's own unit.

    ``bounds`` of the ratios [G], by default 0 to 1. Raises BadInput without a metric, or where either is not a finite
    number, or ``allowed`` is negative.
    """
    if masked.metric is None:
        raise BadInput("the tolerance question needs a metric: give metric(outputs, batch) -> [B]")
    if not math.isfinite(reference) or not math.isfinite(allowed) or allowed < 0:
        raise BadInput(f"reference {reference}, tolerance {allowed}: give finite numbers, tolerance 0 or more")
    return Tolerance(masked, jnp.asarray(reference - allowed - ROUNDING, jnp.float32), ratio_bounds(masked, bounds))


def ratio_bounds(masked: MaskedLoss, bounds: Bounds | None) -> Bounds:
    """The bounds of the ratios [G] as ``arguments.box`` has them; 0 to 1 where none are given."""
    if bounds is None:
        bounds = Bounds(np.zeros(len(masked.groups), np.float32), np.ones(len(masked.groups), np.float32))
    return arguments.box(bounds)


def genome_box(sizes: Sequence[int] | Sequence[Group], bounds: Bounds) -> Bounds:
    """The box of a budget genome [V]: log kept shares that the bounds of the ratios [G] allow; sizes, or the groups."""
    least, most = kept_range(sizes, bounds)
    return Bounds(genome_of(least, sizes), genome_of(most, sizes))


def genome_of(kept: Sequence[int] | np.ndarray, sizes: Sequence[int] | Sequence[Group]) -> np.ndarray:
    """The budget genome float32 [V] of an allocation: a vector to start from. None kept counts as one."""
    grid = lattice.of(sizes)
    shares = np.maximum(np.asarray(kept, np.float64), 1) / grid.size
    return np.log(shares[grid.lead]).astype(np.float32)


def kept_range(sizes: Sequence[int] | Sequence[Group], bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most entries that the bounds of the ratios let each group keep: int64 [G] each.

    Raises BadInput for bounds that are crossed, not finite, outside [0, 1], or not of one entry a group.
    """
    grid = lattice.of(sizes)
    lower, upper = map(np.asarray, arguments.box(bounds))
    if lower.shape != grid.size.shape or lower.min() < 0 or upper.max() > 1:
        raise BadInput(f"ratio bounds are {lower} to {upper}: give {len(grid.size)} pairs in [0, 1], one a group")
    least, most = (np.asarray(end, np.int64) for end in _kept_range(tuple(sizes), Bounds(lower, upper)))
    return least, most


@partial(jax.jit, static_argnums=0)
def _kept_range(sizes: tuple[int, ...] | tuple[Group, ...], bounds: Bounds) -> tuple[Array, Array]:
    return lattice.kept_range(lattice.of(sizes), bounds)


def reachable(sizes: Sequence[int] | Sequence[Group], bounds: Bounds, cost: Total | None = None) -> tuple[int, int]:
    """The smallest and the largest budget that some allocation within the bounds of the ratios meets, in its cost."""
    least, most = kept_range(sizes, bounds)
    if cost is None:
        return int(least.sum()), int(most.sum())
    return budgets.spent(cost, least), budgets.spent(cost, most)
