"""What kept counts cost, in weights, multiply-accumulates or packed bytes, and the most that a budget allows.

A cost never falls when a group keeps more, and holds whichever units stay: exact for weights, an upper model for the
others. ``project`` moves a genome onto a budget of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune import storage
from jax_prune.pruning import costs, counts, lattice, wide
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Bounds, Group, Net, Tree


class Total(Protocol):
    """A pytree of arrays; ``total`` may be traced and vmapped."""

    name: Any  # of the unit, for messages

    def total(self, kept: Array) -> Wide:
        """What counts int32 [G] cost in all, never less when a group keeps more."""


class Cost(Total, Protocol):
    """A total that is a base and what each group costs by itself."""

    base: Any  # Wide scalar: what the groups do not change

    def each(self, kept: Array) -> Wide:
        """What every group costs, [G], when it keeps ``kept`` int32 [G]."""


@flax.struct.dataclass
class Priced:
    """A price for every unit of a slot; a group's kept units are taken for its dearest."""

    base: Wide
    price: Array  # uint32 [G, S], falling
    room: Array  # int32 [G, S]: units of the slot
    name: str = flax.struct.field(pytree_node=False)

    def each(self, kept: Array) -> Wide:
        before = jnp.cumsum(self.room, axis=1) - self.room
        units = jnp.clip(kept[:, None] - before, 0, self.room)
        return wide.total(wide.product(self.price, units.astype(jnp.uint32)))

    def total(self, kept: Array) -> Wide:
        return wide.add(self.base, wide.total(self.each(kept)))


@flax.struct.dataclass
class PackedBytes:
    """``costs.packed_bound`` summed over a group's slots, whichever of them the kept units are in."""

    base: Wide
    size: Array  # uint32 [G], as the others
    skips8: Array  # digits of gaps that go on, in all slots
    skips4: Array
    bits: Array  # bytes of all slots' bitmasks
    name: str = flax.struct.field(pytree_node=False, default="bytes")

    def each(self, kept: Array) -> Wide:
        units = kept.astype(jnp.uint32)
        sparse = jnp.minimum(units + self.skips8, (units + self.skips4) // 2)
        positions = jnp.minimum(sparse, self.bits)
        values = wide.product(jnp.uint32(costs.FLOAT_BYTES), units)
        some = wide.add(values, Wide(jnp.zeros_like(positions), positions))
        return wide.minimum(some, wide.product(jnp.uint32(costs.FLOAT_BYTES), self.size))

    def total(self, kept: Array) -> Wide:
        return wide.add(self.base, wide.total(self.each(kept)))


def weights(groups: Sequence[Group]) -> Priced:
    """Every unit costs 1."""
    sizes = jnp.asarray([[group.size] for group in groups], jnp.int32)
    return Priced(wide.of(0), jnp.ones_like(sizes, jnp.uint32), sizes, "weights")


def macs(net: Net, groups: Sequence[Group], example: Any) -> Priced:
    """Products an example, as ``costs.kept_macs`` counts them: at most so many, and exactly where no bias is grouped.

    An entry costs its kernel's products over its entries, rounded up; a bias nothing. What no group holds and
    products of activations are the base. Raises BadInput as ``costs.macs``.
    """
    products, shapes = costs.macs(net, example), _sizes(net.params)
    rows = []
    for group in groups:
        priced = [(-(-products.get(slot.path, 0) // shapes[slot.path]), shapes[slot.path]) for slot in group.slots]
        rows.append(sorted(priced, reverse=True))
    width = max(map(len, rows))
    table = np.asarray([row + [(0, 0)] * (width - len(row)) for row in rows], np.int64)
    base = sum(count for path, count in products.items() if path not in _paths(groups))
    return Priced(wide.of(base), jnp.asarray(table[..., 0], jnp.uint32), jnp.asarray(table[..., 1], jnp.int32), "MACs")


def packed_bytes(params: Tree, groups: Sequence[Group]) -> PackedBytes:
    """Bytes of positions and float32 values, before compression, without headers; at most so many.

    Leaves that no group holds are the base, stored whole.
    """
    shapes = _sizes(params)
    sizes = [[shapes[slot.path] for slot in group.slots] for group in groups]
    base = costs.FLOAT_BYTES * sum(size for path, size in shapes.items() if path not in _paths(groups))

    def summed(of: Callable[[int], int]) -> Array:
        return jnp.asarray([sum(map(of, row)) for row in sizes], jnp.uint32)

    skips8, skips4 = summed(lambda size: size // 255), summed(lambda size: size // 15 + 1)
    return PackedBytes(wide.of(base), summed(int), skips8, skips4, summed(lambda size: -(-size // 8)))


def spent(cost: Total, kept: ArrayLike) -> int:
    """What counts int [G] cost in all, with the base, on the host."""
    return int(wide.to_numpy(_total(cost, jnp.asarray(np.asarray(kept), jnp.int32))))


@jax.jit
def _total(cost: Total, kept: Array) -> Wide:
    return cost.total(kept)


def project(genome: Array, groups: Sequence[Group], cost: Cost, budget: Wide, bounds: Bounds) -> Array:
    """Kept counts int32 [G] that cost at most ``budget``, in the proportions asked for; none has room for a step more.

    ``genome`` float32 [V] is the log of each variable's wanted kept share, up to a common constant: the largest is
    found by bisection; then one variable after the other, that with most room first, takes all that still fits. So
    a budget of weights is met exactly where some group with steps of 1 has room. ``budget`` is without the base.
    Genome, cost, budget and bounds may be traced. The caller sees to it that the least that the bounds allow fits,
    and that all that is counted stays below 2**63.
    """
    grid = lattice.of(groups)
    low, high = lattice.level_range(grid, bounds)
    fewest, most = low[grid.lead], high[grid.lead]

    def each(level: Array) -> Wide:
        spent = cost.each(lattice.kept(grid, level, low, high))
        return wide.totals(spent, grid.variable, len(grid.names))

    def fits(level: Array) -> Array:
        return wide.at_most(wide.total(each(level)), budget)

    def rounded(amounts: Array) -> Array:
        whole = jnp.clip(amounts.astype(jnp.int32), fewest, most)
        return jnp.where(amounts > fewest.astype(jnp.float32), whole, fewest)  # the float may be above the least

    levels = jnp.asarray(grid.levels[grid.lead])
    amounts = counts.scaled(genome, levels, fewest, most, lambda amounts: fits(rounded(amounts)))
    return lattice.kept(grid, _filled(rounded(amounts), most, each, budget), low, high)


def _filled(level: Array, most: Array, each: Callable[[Array], Wide], budget: Wide) -> Array:
    """Levels [V] raised, one variable after the other, as far as they fit; ``each`` says what they cost, [V]."""
    order = jnp.argsort(level - most, stable=True)

    def reachable(level: Array) -> Array:
        """How far each one could be raised alone."""
        own = each(level)
        allowed = wide.add(own, wide.subtract(budget, wide.total(own)))

        def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = interval
            middle = low + (high - low + 1) // 2
            enough = wide.at_most(each(middle), allowed)
            return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

        return jax.lax.fori_loop(0, 31, halve, (level, most))[0]

    def raise_one(state: tuple[Array, Array]) -> tuple[Array, Array]:
        level, reached = state
        first = order[jnp.argmax((reached > level)[order])]
        level = level.at[first].set(reached[first])
        return level, reachable(level)

    return jax.lax.while_loop(lambda state: (state[1] > state[0]).any(), raise_one, (level, reachable(level)))[0]


def _sizes(params: Tree) -> dict[str, int]:
    leaves = storage.flatten_paths(params)
    return {path: int(np.size(leaf)) for path, leaf in leaves.items() if not path.endswith("/")}


def _paths(groups: Sequence[Group]) -> set[str]:
    return {slot.path for group in groups for slot in group.slots}
