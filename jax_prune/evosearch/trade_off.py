"""What a network's accuracy can be traded for: its loss or error, and costs, as the objectives of a front.

    objectives = trade_off(masked, [kept_parameters(masked), kept_macs(masked), packed_bytes(masked)])
    found = front(key, config, ratio_bounds, objectives)

A cost is any function of the kept counts int32 [G] that gives a scalar; these three know what an entry costs.
Named length: L pruned leaves, those of group 0 first, in the order of a group's slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.evosearch.evaluation import as_pytree
from jax_prune.evosearch.masked import MaskedLoss
from jax_prune.evosearch.objectives import OverRatios, ratio_bounds
from jax_prune.pruning import costs, wide
from jax_prune.pruning.groups import leaf_at
from jax_prune.types import Array, Bounds

Cost = Callable[[Array], Any]  # kept int32 [G] -> scalar


@flax.struct.dataclass
class TradeOff(OverRatios):
    """Objectives: loss, or 1 - metric, and every cost as a share of the dense network's. Make it with ``trade_off``.

    A genome [V] is the pruning ratios themselves, tied groups having one; search it in ``box``.
    """

    masked: MaskedLoss
    costs: tuple[Cost, ...]
    dense: Array  # float32 [C]
    bounds: Bounds  # of the ratios
    by_metric: bool = flax.struct.field(pytree_node=False)

    def __call__(self, genome: Array) -> tuple[Array, Array]:
        """Values float32 [1 + C], and a violation of 1 where the network has collapsed."""
        kept = self.kept(genome)
        sums = self.masked.sums(kept)
        total = self.masked.examples
        missed = 1 - sums.metric / total if self.by_metric else sums.loss / total
        values = jnp.concatenate([missed[None], _priced(self.costs, kept) / self.dense])
        return values, self.masked.collapsed(sums, self.masked.chunk_count)


def trade_off(
    masked: MaskedLoss, costs: Sequence[Cost], bounds: Bounds | None = None, *, by_metric: bool = False
) -> TradeOff:
    """Loss, or with ``by_metric`` 1 - metric, against every one of the ``costs``; ratios [G] in ``bounds``, or 0 to 1.

    Costs are as ``evaluation.as_pytree`` takes them: functions, Partials or flax.struct dataclasses. Raises BadInput
    without costs, for one that is not a positive scalar for the dense network, and ``by_metric`` without a metric.
    """
    if by_metric and masked.metric is None:
        raise BadInput("trading the metric needs one: give masked_loss a metric(outputs, batch) -> [B]")
    if not costs:
        raise BadInput("a trade-off needs at least one cost: give kept_parameters(masked), say")
    settled = tuple(as_pytree(cost) for cost in costs)
    sizes = jnp.asarray(masked.sizes, jnp.int32)
    for number, cost in enumerate(settled):
        price = np.asarray(cost(sizes))
        if price.shape or not 0 < price < math.inf:
            raise BadInput(f"cost {number} of the dense network is {price}: give a function to a positive number")
    return TradeOff(masked, settled, _priced(settled, sizes), ratio_bounds(masked, bounds), by_metric)


@flax.struct.dataclass
class Parameters:
    """Kept entries of the whole network, those that are never pruned included."""

    fixed: Array

    def __call__(self, kept: Array) -> Array:
        return self.fixed + jnp.sum(kept.astype(jnp.float32))


@flax.struct.dataclass
class Macs:
    """Products of kept entries, every leaf's at its own ``price`` float32 [L], and of what is never pruned."""

    split: Split
    price: Array
    fixed: Array

    def __call__(self, kept: Array) -> Array:
        return self.fixed + jnp.vdot(self.price, self.split(kept).astype(jnp.float32))


@flax.struct.dataclass
class PackedBytes:
    """``costs.packed_bound`` of every pruned leaf, and float32 for what is never pruned."""

    split: Split
    fixed: Array

    def __call__(self, kept: Array) -> Array:
        bounds = [costs.packed_bound(leaf.stop - leaf.start, number)
                  for leaf, number in zip(self.split.leaves, self.split(kept), strict=True)]  # fmt: skip
        return self.fixed + jnp.sum(jnp.stack([wide.to_float(bound) for bound in bounds]))


class Leaf(NamedTuple):
    """A pruned leaf: units ``start`` to ``stop`` of ``group``."""

    path: str
    group: int
    start: int
    stop: int


@flax.struct.dataclass
class Split:
    """Which leaves the kept entries of the groups are in: the ranks decide, exactly."""

    ranks: tuple[Array, ...]
    leaves: tuple[Leaf, ...] = flax.struct.field(pytree_node=False)

    def __call__(self, kept: Array) -> Array:
        """Kept entries of every leaf int32 [L], of kept counts int32 [G]."""
        weakest = [len(rank) - kept[group] for group, rank in enumerate(self.ranks)]
        parts = [self.ranks[group][start:stop] >= weakest[group] for _, group, start, stop in self.leaves]
        return jnp.stack([jnp.sum(part, dtype=jnp.int32) for part in parts])


def kept_parameters(masked: MaskedLoss) -> Parameters:
    """Cost: parameters kept."""
    total = costs.parameters(masked.net.params).all_total
    return Parameters(jnp.float32(total - sum(masked.sizes)))


def kept_macs(masked: MaskedLoss) -> Macs:
    """Cost: multiply-accumulates of kept weights an example, biases none; see ``costs.kept_macs``."""
    example = jax.tree.map(lambda leaf: leaf[0, :1], masked.chunks.batch.x)
    products, split = costs.macs(masked.net, example), split_of(masked)
    price = [products.get(leaf.path, 0) / (leaf.stop - leaf.start) for leaf in split.leaves]
    fixed = sum(products.values()) - sum(products.get(leaf.path, 0) for leaf in split.leaves)
    return Macs(split, jnp.asarray(price, jnp.float32), jnp.float32(fixed))


def packed_bytes(masked: MaskedLoss) -> PackedBytes:
    """Cost: at most so many bytes on disk before compression; see ``costs.packed_bound``."""
    unpruned = costs.parameters(masked.net.params).all_total - sum(masked.sizes)
    return PackedBytes(split_of(masked), jnp.float32(costs.FLOAT_BYTES * unpruned))


def split_of(masked: MaskedLoss) -> Split:
    """The leaves of a masked network's groups."""
    leaves = []
    for number, group in enumerate(masked.groups):
        for slot in group.slots:
            start = slot.starts[0]
            leaves.append(Leaf(slot.path, number, start, start + leaf_at(masked.net.params, slot.path).size))
    return Split(masked.ranks, tuple(leaves))


def _priced(prices: Sequence[Cost], kept: Array) -> Array:
    return jnp.stack([jnp.asarray(cost(kept), jnp.float32) for cost in prices])
