"""What kept channels cost, in parameters or multiply-accumulates: exact integers of the kept counts, also under jit.

A leaf's axis is as long as what no group holds of it and the groups' kept units there; an entry of the leaf costs
its price, and so the leaf its price times the product of its axes' lengths. A network is a sum of such products:
exactly what the physically smaller network costs, but not separable into what each group costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import costs, units, wide
from jax_prune.pruning.budgets import spent
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Group, Net, Tree

__all__ = ["ChannelCost", "combined", "macs", "parameters", "priced", "spent"]

Length = tuple[int, tuple[tuple[int, int], ...]]  # what stays, and (group, positions that a unit of it takes)
Terms = dict[tuple[Length, ...], int]  # price of a product of lengths
LARGEST = 2**63


@flax.struct.dataclass
class ChannelCost:
    """A sum of T products of A lengths at most, out of E; lengths are linear in the kept counts, with N entries.

    Make it with ``parameters``, ``macs``, ``priced`` or ``combined``. As a function it gives a float32, so that it can
    be a cost of a ``trade_off``.
    """

    base: Wide  # what no group changes
    price: Wide  # [T]
    factors: Array  # int32 [T, A]: which lengths are multiplied
    rest: Array  # int32 [E]: what stays of a length; length 0 is 1, whatever is kept
    length: Array  # int32 [N]
    group: Array  # int32 [N]
    times: Array  # int32 [N]: positions that a kept unit of the group takes
    name: str = flax.struct.field(pytree_node=False)

    def total(self, kept: Array) -> Wide:
        """What counts int32 [G] cost in all; never less when a group keeps more."""
        lengths = self.rest + jax.ops.segment_sum(self.times * kept[self.group], self.length, len(self.rest))
        product = self.price
        for factor in range(self.factors.shape[1]):
            product = wide.scaled(product, lengths[self.factors[:, factor]].astype(jnp.uint32))
        return wide.add(self.base, wide.total(product))

    def __call__(self, kept: Array) -> Array:
        return wide.to_float(self.total(kept))


def parameters(params: Tree, groups: Sequence[Group]) -> ChannelCost:
    """All parameters, biases and norms included; those that no group holds are in it too."""
    shapes = units.shapes_of(params)
    return priced(shapes, groups, dict.fromkeys(shapes, 1), "parameters")


def macs(net: Net, groups: Sequence[Group], example: Any) -> ChannelCost:
    """Multiply-accumulates an example, as ``costs.macs`` counts them in the smaller network; ``example`` has B = 1.

    Products of two activations, as in attention, count as in the whole network: at most so many. Raises BadInput as
    ``costs.macs``, and for a kernel whose entries are not all used equally often.
    """
    products, shapes = costs.macs(net, example), units.shapes_of(net.params)
    fixed = products.pop(costs.ACTIVATIONS, 0)
    prices = {}
    for path, count in products.items():
        prices[path], uneven = divmod(count, math.prod(shapes[path]))
        if uneven:
            raise BadInput(
                f"{path} is in {count} products, not equally many of each of its {list(shapes[path])} entries"
            )
    return priced(shapes, groups, prices, "MACs", fixed)


def priced(
    shapes: units.Shapes, groups: Sequence[Group], prices: Mapping[str, int], name: str, base: int = 0
) -> ChannelCost:
    """Whatever costs ``prices[path]`` for every entry that is left of a leaf; others cost nothing."""
    terms: Terms = {}
    held = units.occupied(shapes, groups)
    for path, price in prices.items():
        lengths = []
        for extent, places in zip(shapes[path], held[path], strict=True):
            if places:
                lengths.append((units.left_over(extent, places, groups), tuple(sorted(places.items()))))
            else:
                price *= extent
        if lengths and price:
            key = tuple(sorted(lengths))
            terms[key] = terms.get(key, 0) + price
        else:
            base += price
    return _checked(_cost(terms, base, name), groups)


def combined(
    weights: Sequence[float], parts: Sequence[ChannelCost], base: float, groups: Sequence[Group], name: str
) -> ChannelCost:
    """The weighted sum of costs of the same groups, weights not negative; every price is rounded to an integer."""
    prices, factors, columns, offset = [], [], [], 0
    width = max(part.factors.shape[1] for part in parts)
    for weight, part in zip(weights, parts, strict=True):
        base += weight * int(wide.to_numpy(part.base))
        prices += [round(weight * int(price)) for price in wide.to_numpy(part.price)]
        own = np.asarray(part.factors)
        factors.append(np.pad(np.where(own, own + offset, 0), ((0, 0), (0, width - own.shape[1]))))
        columns.append((part.rest, part.length + offset, part.group, part.times))
        offset += len(part.rest)
    rest, length, group, times = (jnp.concatenate(column) for column in zip(*columns, strict=True))
    places = jnp.asarray(np.concatenate(factors))
    return _checked(ChannelCost(wide.of(round(base)), _wide(prices), places, rest, length, group, times, name), groups)


def _cost(terms: Terms, base: int, name: str) -> ChannelCost:
    lengths: list[Length] = [(1, ()), *dict.fromkeys(length for key in terms for length in key)]
    place = {length: number for number, length in enumerate(lengths)}
    width = max(map(len, terms), default=0)
    factors = [[*(place[length] for length in key), *[0] * (width - len(key))] for key in terms]
    entries = [(number, *entry) for number, (_, places) in enumerate(lengths) for entry in places]
    length, group, times = map(jnp.asarray, np.asarray(entries, np.int32).reshape(-1, 3).T)
    rest = jnp.asarray([rest for rest, _ in lengths], jnp.int32)
    places = jnp.asarray(np.asarray(factors, np.int32).reshape(-1, width))
    return ChannelCost(wide.of(base), _wide(list(terms.values())), places, rest, length, group, times, name)


def _wide(values: Sequence[int]) -> Wide:
    """[T] of Python integers."""
    high, low = ([shift(value) for value in values] for shift in (lambda v: v >> 32, lambda v: v & 0xFFFFFFFF))
    return Wide(jnp.asarray(np.asarray(high, np.uint32)), jnp.asarray(np.asarray(low, np.uint32)))


def _checked(cost: ChannelCost, groups: Sequence[Group]) -> ChannelCost:
    """Raises BadInput where the whole network costs 2**63 or more, which two limbs would not hold for certain."""
    sizes = [group.size for group in groups]
    lengths = np.asarray(cost.rest).tolist()
    for length, group, times in zip(*map(np.asarray, (cost.length, cost.group, cost.times)), strict=True):
        lengths[length] += int(times) * sizes[group]
    whole = int(wide.to_numpy(cost.base))
    for price, factors in zip(wide.to_numpy(cost.price), np.asarray(cost.factors), strict=True):
        product = int(price)
        for factor in factors:
            product *= lengths[factor]
        whole += product
    if whole >= LARGEST:
        raise BadInput(f"the whole network costs {whole} {cost.name}, and 2**63 is the limit: count in larger units")
    return cost
