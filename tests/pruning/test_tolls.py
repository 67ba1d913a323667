"""What gives way: the share of a step's spending that goes to the other limits."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jax_prune.pruning import channel_costs, tolls, wide
from jax_prune.pruning.channel_budgets import limit
from jax_prune.types import Group, Slot

SIZES = (40, 90, 70)
SHAPES = {"a": (3, 40), "b": (40, 90), "c": (90, 70), "d": (70, 10)}
GROUPS = tuple(
    Group(name, size, (Slot(here, 1), Slot(there, 0)))
    for name, size, (here, there) in zip("abc", SIZES, ("ab", "bc", "cd"), strict=True)
)


def test_tolls_are_shares_of_what_steps_spend_of_the_budgets():
    prices = [{"a": 900, "b": 90, "c": 9, "d": 1}, dict.fromkeys(SHAPES, 1), {"c": 7}]
    costs = [channel_costs.priced(SHAPES, GROUPS, price, "units") for price in prices]
    budgets = (200_000, 5_000, 20_000)
    kept = np.asarray([20, 30, 10])
    more, less = (np.minimum(kept + 3 * np.eye(3, dtype=int), SIZES), np.maximum(kept - 3 * np.eye(3, dtype=int), 1))
    spent = np.asarray([
        [(channel_costs.spent(cost, m) - channel_costs.spent(cost, n)) / most for m, n in zip(more, less, strict=True)]
        for cost, most in zip(costs, budgets, strict=True)
    ])  # fmt: skip
    expected = spent[1:].max(0) / (spent[0] + spent[1:].max(0))
    limits = [limit(cost, most) for cost, most in zip(costs, budgets, strict=True)]
    found = np.asarray(tolls.of(limits, jnp.asarray(more, jnp.int32), jnp.asarray(less, jnp.int32)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (np.diff(found) > 0).all() and found[0] > 0 and found[-1] < 1  # the further back, the dearer in parameters


def test_what_costs_nothing_pays_no_toll():
    cost = channel_costs.priced(SHAPES, GROUPS, {"d": 2}, "units")
    kept = jnp.asarray([[5, 5, 5]], jnp.int32)
    limits = [limit(cost, 100), limit(cost, 0)]
    assert float(tolls.of(limits, kept, kept)[0]) == 0
    assert int(wide.to_numpy(cost.total(kept[0]))) == 100
