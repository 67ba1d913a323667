"""What a network loses when each group keeps so many entries: loss and metric of one masked candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import masks
from jax_prune.types import Array, Batch, Group, Net

ExampleFunction = Callable[[Any, Batch], Array]  # (outputs, batch) -> [B]


class Means(NamedTuple):
    """Means over the calibration examples: float32 scalars, or [N] for N candidates."""

    loss: Array
    metric: Array


@flax.struct.dataclass
class MaskedLoss:
    """A network, its ranks and calibration data, as arguments of a compiled program: kept counts -> means.

    ``loss(outputs, batch) -> [B]``, lower is better, and ``metric``, higher is better, are static; so are
    ``groups``. New weights, ranks or data of the same shapes never recompile. Make it with ``masked_loss``.
    """

    net: Net
    ranks: tuple[Array, ...]  # int32 [n_g] each, 0 the weakest
    chunks: Batch  # leaves [N, b, ...]
    weights: Array  # float32 [N, b]: 1, and 0 where the last chunk is filled up
    groups: tuple[Group, ...] = flax.struct.field(pytree_node=False)
    loss: ExampleFunction = flax.struct.field(pytree_node=False)
    metric: ExampleFunction | None = flax.struct.field(pytree_node=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_g of every group."""
        return tuple(group.size for group in self.groups)

    def __call__(self, kept: Array) -> Means:
        """Means with the strongest ``kept`` int32 [G] entries of each group; metric 0 where there is none."""
        params = masks.apply(self.net.params, masks.from_kept(self.net.params, self.groups, self.ranks, kept))

        def add(totals: Means, part: tuple[Batch, Array]) -> tuple[Means, None]:
            batch, weights = part
            outputs, _ = self.net.apply(params, self.net.state, batch.x, train=False, key=None)
            loss = jnp.vdot(self.loss(outputs, batch), weights)
            metric = jnp.vdot(self.metric(outputs, batch), weights) if self.metric else jnp.zeros(())
            return Means(totals.loss + loss, totals.metric + metric), None

        zero = jnp.zeros((), jnp.float32)
        totals, _ = jax.lax.scan(add, Means(zero, zero), (self.chunks, self.weights))
        # sums of a metric of zeros and ones are exact: the one rounding is this division's
        return jax.tree.map(lambda total: total / jnp.sum(self.weights), totals)


def masked_loss(
    net: Net,
    groups: Sequence[Group],
    ranks: Sequence[Array],
    batch: Batch,
    loss: ExampleFunction,
    metric: ExampleFunction | None = None,
    *,
    chunk: int = 250,
) -> MaskedLoss:
    """Calibration data [B, ...] cut into chunks of at most ``chunk`` examples for ``MaskedLoss``.

    Raises BadInput where there is no example, no group, or where ranks do not fit the groups.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(batch)}
    if len(lengths) != 1 or 0 in lengths:
        raise BadInput(f"calibration data has leading lengths {sorted(lengths)}: give one length, at least 1")
    if not groups or [group.size for group in groups] != [len(rank) for rank in ranks]:
        raise BadInput(f"{len(groups)} groups, {len(ranks)} ranks: give at least one group, ranks [n_g] of each")
    (length,) = lengths
    count = -(-length // chunk)
    width = -(-length // count)  # equal chunks, so that the last one is hardly filled up
    weights = np.zeros(count * width, np.float32)
    weights[:length] = 1
    chunks = jax.tree.map(lambda leaf: _cut(leaf, count, width), batch)
    ranks = tuple(jnp.asarray(rank) for rank in ranks)
    cut_weights = jnp.asarray(weights.reshape(count, width))
    return MaskedLoss(net, ranks, chunks, cut_weights, tuple(groups), loss, metric)


def _cut(leaf: Any, count: int, width: int) -> Array:
    leaf = jnp.asarray(leaf)
    surplus = jnp.broadcast_to(leaf[:1], (count * width - len(leaf), *leaf.shape[1:]))
    return jnp.concatenate([leaf, surplus]).reshape(count, width, *leaf.shape[1:])
