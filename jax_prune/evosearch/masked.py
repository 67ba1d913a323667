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

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.evosearch import collapse, first_layer
from jax_prune.evosearch import recalibration as renewal
from jax_prune.evosearch.first_layer import FirstLayer
from jax_prune.evosearch.racing import Sums
from jax_prune.evosearch.recalibration import Recalibration
from jax_prune.nets import hoisting
from jax_prune.nets.hoisting import Hoisted
from jax_prune.nets.precision import bfloat16_products
from jax_prune.pruning import counts, masks
from jax_prune.types import Array, Batch, Bounds, Group, Net, Tree

ExampleFunction = Callable[[Any, Batch], Array]  # (outputs, batch) -> [B]
CHUNK = 250  # examples, at most
PRECISIONS = ("float32", "bfloat16")  # of the net's products


class Means(NamedTuple):
    """Means over the calibration examples: float32 scalars, or [N] for N candidates, or [B] one example each."""

    loss: Array
    metric: Array


class Chunks(NamedTuple):
    """Examples, leaves [N, b, ...], and what the net makes of x before any parameter comes in, [N, ...] each."""

    batch: Batch
    values: tuple[Array, ...]


class Candidate(NamedTuple):
    """One candidate's masked parameters, its state, its counts int32 [G], and its outputs [1, ...] for one example."""

    params: Tree
    state: Tree
    kept: Array
    outputs: Any


@flax.struct.dataclass
class MaskedLoss:
    """A network, its ranks and calibration data, as arguments of a compiled program: kept counts -> means.

    ``loss(outputs, batch) -> [B]``, lower is better, and ``metric``, higher is better, are static; so are
    ``groups``. New weights, ranks or data of the same shapes never recompile. Make it with ``masked_loss``.
    """

    net: Net
    ranks: tuple[Array, ...]  # int32 [n_g] each, 0 the weakest
    chunks: Chunks
    example: Tree  # the first example's x, leaves [1, ...]
    weights: Array  # float32 [N, b]: 1, and 0 where the last chunk is filled up
    first_layer: FirstLayer | None
    recalibration: Recalibration | None
    hoisted: Hoisted = flax.struct.field(pytree_node=False)
    groups: tuple[Group, ...] = flax.struct.field(pytree_node=False)
    loss: ExampleFunction = flax.struct.field(pytree_node=False)
    metric: ExampleFunction | None = flax.struct.field(pytree_node=False)
    stride: int = flax.struct.field(pytree_node=False, default=1)  # a device's chunks among others: see sharding.py
    precision: str = flax.struct.field(pytree_node=False, default="float32")

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
        sums = self.sums(kept)
        # sums of a metric of zeros and ones are exact: the one rounding is this division's
        return Means(sums.loss / self.examples, sums.metric / self.examples)

    def sums(self, kept: Array) -> Sums:
        """Sums over all chunks."""
        candidate = self.prepare(kept)

        def add(sums: Sums, index: Array) -> tuple[Sums, None]:
            return jax.tree.map(jnp.add, sums, self.part(candidate, index)), None

        zero = jnp.zeros((), jnp.float32)
        return jax.lax.scan(add, Sums(zero, zero, zero), jnp.arange(self.chunk_count))[0]

    @property
    def examples(self) -> Array:
        """How many examples there are, float32."""
        return jnp.sum(self.weights)

    def prepare(self, kept: Array) -> Candidate:
        """What the evaluation of counts int32 [G] needs."""
        flags = masks.from_kept(self.net.params, self.groups, self.ranks, kept)
        params = masks.apply(self.net.params, flags)
        state = self.state_of(params)
        outputs, _ = self.net.apply(params, state, self.example, train=False, key=None)
        return Candidate(params, state, kept, outputs)

    def state_of(self, params: Tree) -> Tree:
        """The net's state, with batch statistics as masked parameters give them where they are taken anew."""
        return self.net.state if self.recalibration is None else self.recalibration(params, self.net.state)

    def part(self, candidate: Candidate, index: Array) -> Sums:
        """Sums over the chunk ``index``."""
        (each, outputs), weights = self._each(candidate, index), _at(self.weights, index)
        return Sums(
            jnp.vdot(each.loss, weights), jnp.vdot(each.metric, weights), collapse.differs(outputs, candidate.outputs)
        )

    def collapsed(self, sums: Sums, done: Array | int) -> Array:
        """1 where all chunks are ``done`` and no outputs varied, else 0: float32. One example alone tells nothing."""
        several = self.weights.size > 1
        return (several & (done == self.chunk_count) & (sums.varying == 0)).astype(jnp.float32)

    def arranged(self, kept: Array, first: Callable[[Means], tuple[Array, ...]]) -> tuple[MaskedLoss, Means]:
        """The same with examples sorted by ``first(means [B])``, keys as of lexsort, and the Means [B] of these counts.

        What the last chunk is filled up with stays last, and reads 0.
        """
        means = self.each(kept)
        return self._ordered(first(means)), means

    def each(self, kept: Array) -> Means:
        """Means [B] of counts int32 [G], one example each; what the last chunk is filled up with comes last, as 0."""
        candidate = self.prepare(kept)
        means = jax.lax.map(lambda index: self._each(candidate, index)[0], jnp.arange(self.chunk_count))
        counted = self.weights > 0
        return Means(*(jnp.where(counted, values, 0).reshape(-1) for values in means))

    def shuffled(self, key: Array) -> MaskedLoss:
        """The same with examples in random order."""
        return self._ordered((jax.random.uniform(key, (self.weights.size,)),))

    def shortened(self, count: int) -> MaskedLoss:
        """The same over the first ``count`` chunks alone."""
        chunks = jax.tree.map(lambda leaf: leaf[:count], self.chunks)
        layer = self.first_layer and self.first_layer.shortened(count)
        return dataclasses.replace(self, chunks=chunks, weights=self.weights[:count], first_layer=layer)

    def _ordered(self, keys: tuple[Array, ...]) -> MaskedLoss:
        """Examples sorted by keys [B] as of lexsort; what the last chunk is filled up with stays last."""
        order = jnp.lexsort((*keys, self.weights.reshape(-1) == 0))

        def sort(leaf: Array) -> Array:
            return leaf.reshape(-1, *leaf.shape[2:])[order].reshape(leaf.shape)

        batch = jax.tree.map(sort, self.chunks.batch)
        values = jax.lax.map(self.hoisted.prefix, batch.x)  # which need not have the examples first
        chunks = Chunks(batch, _stored(values, self.precision))
        layer = self.first_layer and self.first_layer.rearranged(chunks.values[self.first_layer.first.place])
        return dataclasses.replace(self, chunks=chunks, first_layer=layer)

    def cached(self, bounds: Bounds, memory: int = 2**30) -> MaskedLoss:
        """The same with the first layer's products kept at counts that the bounds of the ratios [G] allow.

        Within ``memory`` bytes; unchanged where the first layer is not dense, not pruned entry by entry or does not
        compute in float32, or memory does not do for one count. The last bits of a loss change. See ``first_layer``:
        it pays on CPU.
        """
        if self.precision != "float32":
            return self
        first = hoisting.first_product(self.hoisted, self.net.params)
        group = None if first is None else first_layer.group_of(self.groups, first)
        if first is None or group is None:
            return self
        inputs = self.chunks.values[first.place]
        if inputs.dtype != jnp.float32 or storage.flatten_paths(self.net.params)[first.path].dtype != jnp.float32:
            return self
        width = storage.flatten_paths(self.net.params)[first.path].shape[1]
        anchors = min(memory // first_layer.product_bytes(inputs, width) - 1, first_layer.ANCHORS)
        if anchors < 1:
            return self
        lower, upper = (np.asarray(side, np.float32)[group] for side in bounds)
        least, most = (int(counts.kept_count(ratio, self.sizes[group])) for ratio in (upper, lower))
        chosen = first_layer.counts_kept(least, most, anchors)
        layer = first_layer.build(self.net.params, self.groups[group], group, self.ranks[group], first, inputs, chosen)
        return dataclasses.replace(self, first_layer=layer)

    def at_precision(self, precision: str) -> MaskedLoss:
        """The same with the net's products in ``precision``, from float32; see ``nets.precision``.

        In bfloat16 the hoisted values are kept in it as well. Outputs, losses, sums and batch statistics stay float32.
        Raises BadInput for an unknown precision.
        """
        if precision not in PRECISIONS:
            raise BadInput(f"unknown precision '{precision}': known are {', '.join(PRECISIONS)}")
        if precision == self.precision:
            return self
        chunks = self.chunks._replace(values=_stored(self.chunks.values, precision))
        hoisted = self.hoisted._replace(apply=bfloat16_products(self.hoisted.apply))
        return dataclasses.replace(self, chunks=chunks, hoisted=hoisted, first_layer=None, precision=precision)

    def _each(self, candidate: Candidate, index: Array) -> tuple[Means, Any]:
        """Of every example of a chunk: [b], and the outputs."""
        batch, values = jax.tree.map(lambda leaf: _at(leaf, index // self.stride), self.chunks)
        params, state = candidate.params, candidate.state
        if self.precision == "bfloat16":
            values = tuple(v.astype(jnp.float32) if v.dtype == jnp.bfloat16 else v for v in values)
        if self.first_layer is None:
            outputs, _ = self.hoisted.apply(params, state, values, train=False, key=None)
        else:
            outputs = self.first_layer(params, state, values, candidate.kept, index)
        loss = self._one_each(self.loss(outputs, batch), "loss")
        metric = self._one_each(self.metric(outputs, batch), "metric") if self.metric else jnp.zeros_like(loss)
        return Means(loss, metric), outputs

    def _one_each(self, values: Array, name: str) -> Array:
        """float32 [b]. Raises BadInput for what is not one number an example."""
        examples = self.weights.shape[1]
        if jnp.shape(values) != (examples,):
            raise BadInput(
                f"{name} returned {list(jnp.shape(values))} for {examples} examples: give one number each, [B]"
            )
        return jnp.asarray(values).astype(jnp.float32)


def masked_loss(
    net: Net,
    groups: Sequence[Group],
    ranks: Sequence[Array],
    batch: Batch,
    loss: ExampleFunction,
    metric: ExampleFunction | None = None,
    *,
    chunk: int = CHUNK,
    recalibration: Any = None,
    precision: str = "float32",
) -> MaskedLoss:
    """Calibration data [B, ...] cut into chunks of at most ``chunk`` examples for ``MaskedLoss``.

    ``recalibration``: inputs [R, ...] over which every candidate's batch statistics are taken anew, where the net has
    some; see ``recalibration``. In rounds of several candidates at once that is done once a chunk.
    ``precision``: float32, or bfloat16 for the net's products; see ``MaskedLoss.at_precision``.

    Raises BadInput where there is no example, no group, or where ranks do not fit the groups.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(batch)}
    if len(lengths) != 1 or 0 in lengths:
        raise BadInput(f"calibration data has leading lengths {sorted(lengths)}: give one length, at least 1")
    if not groups or [group.size for group in groups] != [len(rank) for rank in ranks]:
        raise BadInput(f"{len(groups)} groups, {len(ranks)} ranks: give at least one group, ranks [n_g] of each")
    for group, rank in zip(groups, ranks, strict=True):
        _check_rank(group, rank)
    (length,) = lengths
    count = -(-length // chunk)
    width = -(-length // count)  # equal chunks, so that the last one is hardly filled up
    weights = np.zeros(count * width, np.float32)
    weights[:length] = 1
    cut = jax.tree.map(lambda leaf: _cut(leaf, count, width), batch)
    ranks = tuple(jnp.asarray(rank) for rank in ranks)
    cut_weights = jnp.asarray(weights.reshape(count, width))
    hoisted = hoisting.hoist(net, jax.tree.map(lambda leaf: leaf[0], cut.x))
    chunks, example = Chunks(cut, _prefixed(hoisted, cut.x)), jax.tree.map(lambda leaf: leaf[0, :1], cut.x)
    renewed = None if recalibration is None else renewal.recalibration(net, recalibration)
    masked = MaskedLoss(net, ranks, chunks, example, cut_weights, None, renewed, hoisted, tuple(groups), loss, metric)
    return masked.at_precision(precision)


def _check_rank(group: Group, rank: Any) -> None:
    """Raises BadInput for what is no order of the group's entries; scores, say."""
    order = np.asarray(rank)
    if not np.issubdtype(order.dtype, np.integer) or order.min() != 0 or order.max() != group.size - 1:
        raise BadInput(
            f"ranks of {group.name} are no ranks from 0 to {group.size - 1}: give masks.ranks(scores, groups)"
        )


def _stored(values: tuple[Array, ...], precision: str) -> tuple[Array, ...]:
    """Hoisted values as they are kept under a precision."""
    if precision == "float32":
        return values
    return tuple(value.astype(jnp.bfloat16) if value.dtype == jnp.float32 else value for value in values)


@partial(jax.jit, static_argnums=0)
def _prefixed(hoisted: Hoisted, x: Tree) -> tuple[Array, ...]:
    return jax.lax.map(hoisted.prefix, x)


def _cut(leaf: Any, count: int, width: int) -> Array:
    leaf = jnp.asarray(leaf)
    surplus = jnp.broadcast_to(leaf[:1], (count * width - len(leaf), *leaf.shape[1:]))
    return jnp.concatenate([leaf, surplus]).reshape(count, width, *leaf.shape[1:])


def _at(leaf: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False)
