"""What each group alone can lose: one-group sweeps, and the box that they suggest for a search."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.evosearch.evaluation import lift
from jax_prune.evosearch.masked import MaskedLoss, Means
from jax_prune.evosearch.objectives import reachable
from jax_prune.pruning import lattice
from jax_prune.pruning.budgets import Total
from jax_prune.types import Array, Bounds, Group


class Curves(NamedTuple):
    """Pruning ``ratios`` float32 [K]; mean loss and metric [G, K] with that group alone pruned, and dense."""

    ratios: np.ndarray
    loss: np.ndarray
    metric: np.ndarray
    dense_loss: float
    dense_metric: float


def curves(masked: MaskedLoss, ratios: ArrayLike, *, at_once: int = 1) -> Curves:
    """One-group sweeps over ascending ``ratios`` [K] in [0, 1]: G K + 1 evaluations, one compiled program.

    Raises BadInput for ratios out of range or order.
    """
    points = np.asarray(ratios, np.float32)
    if points.ndim != 1 or not points.size or not (points >= 0).all() or not (points <= 1).all():
        raise BadInput(f"sensitivity ratios are {np.array2string(points, threshold=8)}: give some in [0, 1]")
    if (np.diff(points) <= 0).any():
        raise BadInput("sensitivity ratios must ascend without repetition: sort them")
    size = len(masked.sizes)
    vectors = np.zeros((1 + size * len(points), size), np.float32)
    vectors[1:].reshape(size, len(points), size)[np.arange(size), :, np.arange(size)] = points
    means = jax.device_get(_means(masked, jnp.asarray(vectors), at_once))
    loss, metric = (leaf[1:].reshape(size, len(points)) for leaf in means)
    return Curves(points, loss, metric, float(means.loss[0]), float(means.metric[0]))


def bounds(
    found: Curves,
    increase: float,
    allowed: Bounds,
    sizes: Sequence[int] | Sequence[Group] = (),
    budget: int | None = None,
    cost: Total | None = None,
) -> Bounds:
    """The allowed box with each upper ratio cut where that group's loss first rises by more than
    ``increase``.

    Ratios between two swept points are interpolated. Together the groups must still reach the ``budget``, of ``cost``,
    with room to choose: while the box forces more than half of it, the increase is doubled. Lower ratios stay,
    and an upper one never falls below its lower. Raises BadInput for an increase that is not positive.
    """
    if not increase > 0:
        raise BadInput(f"sensitivity increase is {increase}: give a positive loss difference")
    lower, most = (np.asarray(side, np.float32) for side in allowed)
    box = allowed
    for doubling in range(64):
        limit = found.dense_loss + increase * 2.0**doubling
        upper = np.array([_crossing(found.ratios, loss, limit) for loss in found.loss], np.float32)
        box = Bounds(lower, np.clip(upper, lower, most))
        if budget is None or _has_room(sizes, box, allowed, budget, cost):
            return box
    return Bounds(lower, most)


def _has_room(
    sizes: Sequence[int] | Sequence[Group], box: Bounds, allowed: Bounds, budget: int, cost: Total | None
) -> bool:
    """Whether the box forces at most half of the budget; with a cost, of what is above the least allowed."""
    forced = 0 if cost is None else reachable(sizes, allowed, cost)[0]
    return 2 * (reachable(sizes, box, cost)[0] - forced) <= budget - forced


def _crossing(ratios: np.ndarray, loss: np.ndarray, limit: float) -> float:
    """The ratio where the curve first goes above the limit; the last or 1.0 where it never does."""
    above = ~(loss <= limit)  # NaN is above
    if not above.any():
        return 1.0
    index = int(np.argmax(above))
    if index == 0:
        return 0.0
    before, after = loss[index - 1], loss[index]
    share = (limit - before) / (after - before) if np.isfinite(after) else 0.0
    return float(ratios[index - 1] + share * (ratios[index] - ratios[index - 1]))


@partial(jax.jit, static_argnames="at_once")
def _means(masked: MaskedLoss, vectors: Array, at_once: int) -> Means:
    grid = lattice.of([group._replace(tied="") for group in masked.groups])
    everything = Bounds(jnp.zeros(len(masked.groups)), jnp.ones(len(masked.groups)))
    return lift(lambda ratios: masked(lattice.kept_at(grid, ratios, everything)), vectors, at_once)
