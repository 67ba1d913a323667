"""The first layer once for all candidates: its products at some counts are kept, and the rest is added entry by entry.

Every candidate's first dense layer multiplies the same inputs by the strongest k entries of the same kernel. Summed
from the strongest entry on, the product with k entries is that with fewer plus what the next ones add, so it is
a function of k alone, whoever computes it from wherever. Products at M evenly spaced counts are kept within
a limit of memory; a candidate starts from the one below its count. For CPU, where entries are added one by
one at the speed of memory: LeNet-300-100 spends 88 % of its products in this layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import storage
from jax_prune.nets.hoisting import FirstProduct
from jax_prune.types import Array, Group, Slot, Tree

ANCHORS = 64  # at most: more save little


@flax.struct.dataclass
class FirstLayer:
    """Products [H, b] of N chunks at the ascending ``counts`` int32 [M] of the group's strongest entries, the first 0.

    Entry r from the strongest on multiplies input ``rows[r]`` for unit ``columns[r]`` by ``weights[r]``; entries of
    the group that are no part of the kernel have weight 0.
    """

    inputs: Array  # float32 [N, D, b]
    products: Array  # float32 [N, M, H, b]
    counts: Array
    rows: Array
    columns: Array
    weights: Array
    group: int = flax.struct.field(pytree_node=False)
    first: FirstProduct = flax.struct.field(pytree_node=False)

    def __call__(self, params: Tree, state: Tree, values: Any, kept: Array, index: Array) -> Any:
        """Outputs of chunk ``index`` with ``kept`` int32 [G] entries; ``params`` are masked by them."""
        count = kept[self.group]
        below = jnp.searchsorted(self.counts, count, side="right") - 1
        size = self.products.shape[2:]
        start = jax.lax.dynamic_slice(self.products, (index, below, 0, 0), (1, 1, *size)).reshape(size)
        product = self._extended(start, index, self.counts[below], count)
        return self.first.apply(params, state, values, product.T)

    def rearranged(self, inputs: Array) -> FirstLayer:
        """For other inputs [N, b, D]."""
        turned = dataclasses.replace(self, inputs=jnp.swapaxes(inputs, 1, 2))
        return dataclasses.replace(turned, products=turned._all_products(self.products.shape[2]))

    def shortened(self, count: int) -> FirstLayer:
        """For the first ``count`` chunks alone."""
        return dataclasses.replace(self, inputs=self.inputs[:count], products=self.products[:count])

    def _all_products(self, width: int) -> Array:
        """[N, M, H, b], from entry to entry."""
        chunks, _, length = self.inputs.shape

        def of_chunk(index: Array) -> Array:
            def extend(product: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
                product = self._extended(product, index, *ends)
                return product, product

            ends = (jnp.concatenate([jnp.zeros(1, jnp.int32), self.counts[:-1]]), self.counts)
            return jax.lax.scan(extend, jnp.zeros((width, length), jnp.float32), ends)[1]

        return jax.lax.map(of_chunk, jnp.arange(chunks))

    def _extended(self, product: Array, index: Array, first: Array, last: Array) -> Array:
        """The product [H, b] with the entries from ``first`` to ``last`` - 1 added, in this order."""
        length = product.shape[1]

        def add(entry: Array, product: Array) -> Array:
            row = jax.lax.dynamic_slice(self.inputs, (index, self.rows[entry], 0), (1, 1, length))[0]
            unit = jax.lax.dynamic_slice_in_dim(product, self.columns[entry], 1)
            return jax.lax.dynamic_update_slice_in_dim(
                product, unit + self.weights[entry] * row, self.columns[entry], 0
            )

        return jax.lax.fori_loop(first, last, add, product)


def counts_kept(least: int, most: int, size: int) -> np.ndarray:
    """0, and ``size`` counts int32 spaced evenly from ``least`` to ``most``: as many for every range."""
    return np.asarray([0, *np.linspace(least, most, size).astype(np.int64)], np.int32)


def product_bytes(inputs: Array, width: int) -> int:
    """What the products of one count take for inputs [N, b, D] and H units; twice, while examples are sorted."""
    return 2 * 4 * inputs.shape[0] * inputs.shape[1] * width


def group_of(groups: Sequence[Group], first: FirstProduct) -> int | None:
    """Which group the kernel's single entries belong to."""
    for number, group in enumerate(groups):
        if _slot(group, first) is not None:
            return number
    return None


def build(
    params: Tree, group: Group, number: int, rank: Array, first: FirstProduct, inputs: Array, counts: np.ndarray
) -> FirstLayer:
    """Products of inputs [N, b, D] at ``counts`` of a group, by its rank int32 [n_g], 0 the weakest."""
    kernel, slot = storage.flatten_paths(params)[first.path], _slot(group, first)
    assert slot is not None
    entry = jnp.argsort(-rank) - slot.starts[0]
    inside = (entry >= 0) & (entry < kernel.size)
    entry = jnp.where(inside, entry, 0)
    weights = jnp.where(inside, kernel.reshape(-1)[entry], 0)
    width = kernel.shape[1]
    nothing = jnp.zeros((0, 0, width, 0), jnp.float32)
    places = jnp.asarray(counts, jnp.int32), entry // width, entry % width
    return _rearranged(FirstLayer(inputs, nothing, *places, weights, number, first), inputs)


@jax.jit
def _rearranged(layer: FirstLayer, inputs: Array) -> FirstLayer:
    return layer.rearranged(inputs)


def _slot(group: Group, first: FirstProduct) -> Slot | None:
    return next((slot for slot in group.slots if slot.path == first.path and slot.axis is None), None)
