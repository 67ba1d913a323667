"""What a network loses when each group keeps so many entries: loss and metric of one masked candidate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.evosearch.racing import Sums
from jax_prune.pruning import masks
from jax_prune.types import Array, Batch, Group, Net, Tree

ExampleFunction = Callable[[Any, Batch], Array]  # (outputs, batch) -> [B]


class Means(NamedTuple):
    """Means over the calibration examples: float32 scalars, or [N] for N candidates, or [B] one example each."""

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
    stride: int = flax.struct.field(pytree_node=False, default=1)  # a device's chunks among others: see sharding.py

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_g of every group."""
        return tuple(group.size for group in self.groups)

    @property
    def chunk_count(self) -> int:
        """N."""
        return self.weights.shape[0]

    def __call__(self, kept: Array) -> Means:
        """Means with the strongest ``kept`` int32 [G] entries of each group; metric 0 where there is none."""
        params = self.prepare(kept)

        def add(sums: Sums, index: Array) -> tuple[Sums, None]:
            return jax.tree.map(jnp.add, sums, self.part(params, index)), None

        zero = jnp.zeros((), jnp.float32)
        sums, _ = jax.lax.scan(add, Sums(zero, zero), jnp.arange(self.chunk_count))
        # sums of a metric of zeros and ones are exact: the one rounding is this division's
        return Means(*(total / self.examples for total in sums))

    @property
    def examples(self) -> Array:
        """How many examples there are, float32."""
        return jnp.sum(self.weights)

    def prepare(self, kept: Array) -> Tree:
        """The masked parameters."""
        return masks.apply(self.net.params, masks.from_kept(self.net.params, self.groups, self.ranks, kept))

    def part(self, params: Tree, index: Array) -> Sums:
        """Sums over the chunk ``index``."""
        each, weights = self._each(params, index), _at(self.weights, index)
        return Sums(*(jnp.vdot(values, weights) for values in each))

    def arranged(self, kept: Array, first: Callable[[Means], tuple[Array, ...]]) -> tuple[MaskedLoss, Means]:
        """The same with examples sorted by ``first(means [B])``, keys as of lexsort, and the Means [B] of these counts.

        What the last chunk is filled up with stays last, and reads 0.
        """
        params = self.prepare(kept)
        means = Means(*jax.lax.map(partial(self._each, params), jnp.arange(self.chunk_count)))
        flat, counted = Means(*(values.reshape(-1) for values in means)), self.weights.reshape(-1) > 0
        order = jnp.lexsort((*first(flat), ~counted))

        def sort(leaf: Array) -> Array:
            return leaf.reshape(-1, *leaf.shape[2:])[order].reshape(leaf.shape)

        replaced = dataclasses.replace(self, chunks=jax.tree.map(sort, self.chunks))
        return replaced, Means(*(jnp.where(counted, values, 0) for values in flat))

    def _each(self, params: Tree, index: Array) -> Means:
        """Of every example of a chunk: [b]."""
        batch = jax.tree.map(lambda leaf: _at(leaf, index // self.stride), self.chunks)
        outputs, _ = self.net.apply(params, self.net.state, batch.x, train=False, key=None)
        loss = self.loss(outputs, batch).astype(jnp.float32)
        return Means(loss, self.metric(outputs, batch).astype(jnp.float32) if self.metric else jnp.zeros_like(loss))


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


def _at(leaf: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False)
