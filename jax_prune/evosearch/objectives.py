"""The two questions about a network: least loss at a budget, and most compression at a tolerance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import flax.struct
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.evosearch.evolution import checked
from jax_prune.evosearch.masked import Candidate, MaskedLoss
from jax_prune.evosearch.racing import Sums
from jax_prune.evosearch.score import Score
from jax_prune.pruning import counts
from jax_prune.types import Array, Bounds

ROUNDING = 1e-6  # a float32 mean may miss the share it stands for by this much


@flax.struct.dataclass
class BudgetLoss:
    """Fitness: the loss of the network with exactly ``budget`` entries kept in all. Make it with
    ``budget_loss``.

    A genome [G] is the logarithm of each group's kept share, up to a common factor: ``counts.project`` moves
    it onto the budget, inside the ``bounds`` of the ratios. Search it in ``genome_box(sizes, bounds)``.
    """

    masked: MaskedLoss
    budget: Array  # int32
    bounds: Bounds  # of the ratios

    def kept(self, genome: Array) -> Array:
        """int32 [G], summing to the budget."""
        return counts.project(genome, self.masked.sizes, self.budget, self.bounds)

    def loss(self, kept: Array) -> Array:
        """Mean loss of an allocation int32 [G], whatever it sums to."""
        return self.masked(kept).loss

    def __call__(self, genome: Array) -> Score:
        return Score(self.loss(self.kept(genome)), jnp.zeros((), jnp.float32))

    @property
    def chunk_count(self) -> int:
        """N, the chunks of the calibration data."""
        return self.masked.chunk_count

    def prepare(self, kept: Array) -> Candidate:
        return self.masked.prepare(kept)

    def part(self, candidate: Candidate, index: Array) -> Sums:
        return self.masked.part(candidate, index)

    def bound(self, kept: Array, sums: Sums, done: Array) -> Score:
        """The loss so far, spread over all examples: losses are not negative."""
        return Score(sums.loss / self.masked.examples, jnp.zeros((), jnp.float32))

    def arranged(self, kept: Array) -> tuple[BudgetLoss, Array]:
        """What these counts lose most on comes first; True where no loss is negative."""
        masked, means = self.masked.arranged(kept, lambda means: (-means.loss,))
        return dataclasses.replace(self, masked=masked), jnp.all(means.loss >= 0)

    def shuffled(self, key: Array) -> BudgetLoss:
        """With the examples in random order."""
        return dataclasses.replace(self, masked=self.masked.shuffled(key))

    is_mean = True


@flax.struct.dataclass
class Tolerance:
    """Fitness: the share of entries kept, feasible while the metric's mean is at least ``floor``.

    A genome [G] is the pruning ratios themselves. Make it with ``tolerance``.
    """

    masked: MaskedLoss
    floor: Array  # float32

    def kept(self, genome: Array) -> Array:
        """int32 [G]: n - floor(ratio * n), exactly."""
        return counts.kept_count(genome, jnp.asarray(self.masked.sizes, jnp.int32))

    def __call__(self, genome: Array) -> Score:
        kept = self.kept(genome)
        return Score(self._share(kept), jnp.maximum(0.0, self.floor - self.masked(kept).metric))

    @property
    def chunk_count(self) -> int:
        """N, the chunks of the calibration data."""
        return self.masked.chunk_count

    def prepare(self, kept: Array) -> Candidate:
        return self.masked.prepare(kept)

    def part(self, candidate: Candidate, index: Array) -> Sums:
        return self.masked.part(candidate, index)

    def bound(self, kept: Array, sums: Sums, done: Array) -> Score:
        """The share is known beforehand; no example that is still to come adds more than 1 to the metric."""
        counted = jnp.sum(self.masked.weights, axis=1)
        left = jnp.sum(jnp.where(jnp.arange(len(counted)) < done, 0, counted))
        most = (sums.metric + left) / self.masked.examples
        return Score(self._share(kept), jnp.maximum(0.0, self.floor - most))

    def arranged(self, kept: Array) -> tuple[Tolerance, Array]:
        """What these counts get wrong comes first; True where no example's metric is above 1."""
        masked, means = self.masked.arranged(kept, lambda means: (-means.loss, means.metric))
        return dataclasses.replace(self, masked=masked), jnp.all(means.metric <= 1)

    def shuffled(self, key: Array) -> Tolerance:
        """With the examples in random order."""
        return dataclasses.replace(self, masked=self.masked.shuffled(key))

    is_mean = False

    def _share(self, kept: Array) -> Array:
        sizes = jnp.asarray(self.masked.sizes, jnp.float32)
        return jnp.sum(kept.astype(jnp.float32)) / jnp.sum(sizes)


def budget_loss(masked: MaskedLoss, budget: int, bounds: Bounds) -> BudgetLoss:
    """Raises BadInput for a budget that no allocation within the bounds of the ratios meets."""
    least, most = reachable(masked.sizes, bounds)
    if not least <= budget <= most:
        raise BadInput(f"budget {budget} cannot be met: the bounds allow {least} to {most} kept entries")
    return BudgetLoss(masked, jnp.asarray(budget, jnp.int32), checked(bounds))


def tolerance(masked: MaskedLoss, reference: float, allowed: float) -> Tolerance:
    """The metric may be ``allowed`` below ``reference``, both means in the metric's own unit.

    Raises BadInput without a metric, or where either is not a finite number, or ``allowed`` is negative.
    """
    if masked.metric is None:
        raise BadInput("the tolerance question needs a metric: give metric(outputs, batch) -> [B]")
    if not math.isfinite(reference) or not math.isfinite(allowed) or allowed < 0:
        raise BadInput(f"reference {reference}, tolerance {allowed}: give finite numbers, tolerance 0 or more")
    return Tolerance(masked, jnp.asarray(reference - allowed - ROUNDING, jnp.float32))


def genome_box(sizes: Sequence[int], bounds: Bounds) -> Bounds:
    """The box of a budget genome: log kept shares that the bounds of the ratios allow."""
    size = np.asarray(sizes, np.float64)
    lower, upper = (np.log(np.maximum(kept, 1) / size) for kept in kept_range(sizes, bounds))
    return Bounds(lower.astype(np.float32), upper.astype(np.float32))


def genome_of(kept: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """The budget genome float32 [G] of an allocation: a vector to start from. None kept counts as one."""
    shares = np.maximum(np.asarray(kept, np.float64), 1) / np.asarray(sizes, np.float64)
    return np.log(shares).astype(np.float32)


def kept_range(sizes: Sequence[int], bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most entries that the bounds of the ratios let each group keep: int64 [G] each.

    Raises BadInput for bounds that are crossed, not finite, outside [0, 1], or not of one entry a group.
    """
    size = np.asarray(sizes, np.int64)
    lower, upper = map(np.asarray, checked(bounds))
    if lower.shape != size.shape or lower.min() < 0 or upper.max() > 1:
        raise BadInput(f"ratio bounds are {lower} to {upper}: give {len(size)} pairs in [0, 1], one a group")
    least, most = (np.asarray(counts.kept_count(ratio, size), np.int64) for ratio in (upper, lower))
    return least, most


def reachable(sizes: Sequence[int], bounds: Bounds) -> tuple[int, int]:
    """The smallest and the largest budget that some allocation within the bounds of the ratios meets."""
    least, most = kept_range(sizes, bounds)
    return int(least.sum()), int(most.sum())
