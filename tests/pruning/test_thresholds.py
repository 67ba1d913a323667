"""One threshold for all groups against brute force."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets, targets
from jax_prune.errors import BadInput
from jax_prune.pruning import channel_allocations, channel_costs, thresholds, wide
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Group


@flax.struct.dataclass
class Chain:
    """Each group's units times the next one's, as in convolutions that follow one another; ``price`` uint32 [G]."""

    price: Array
    name: str = flax.struct.field(pytree_node=False, default="products")

    def total(self, kept: Array) -> Wide:
        units = kept.astype(jnp.uint32)
        return wide.total(wide.product(self.price, units * jnp.append(units[1:], 1)))


def spent(price, kept):
    return int((np.asarray(price, np.int64) * kept * np.append(kept[1:], 1)).sum())


def brute_force(scores, steps, price, budget, movable):
    """Counts: the fewest removed in the order of all scores, then the best steps that still fit."""
    sizes = np.asarray([len(own) for own in scores])
    fewest = np.where(movable, np.minimum(steps, sizes), sizes)
    ranked = [np.argsort(own, kind="stable") for own in scores]  # weakest first
    units = [(scores[g][u], g, u) for g in range(len(sizes)) for u in ranked[g][: sizes[g] - fewest[g]]]
    units.sort(key=lambda unit: (unit[0], unit[1], unit[2]))
    for removed in range(len(units) + 1):
        left = sizes - np.bincount([g for _, g, _ in units[:removed]], minlength=len(sizes))
        kept = np.where(left == sizes, left, np.maximum(left // steps * steps, fewest))
        if spent(price, kept) <= budget:
            break
    while True:
        best = None
        for g in range(len(sizes)):
            more = kept.copy()
            more[g] = min(kept[g] + steps[g], sizes[g])
            if kept[g] < sizes[g] and spent(price, more) <= budget:
                score = scores[g][ranked[g][sizes[g] - 1 - kept[g]]]
                if best is None or score > best[0]:
                    best = (score, more)
        if best is None:
            return kept, ranked
        kept = best[1]


KINDS = [  # sizes, steps, which may be cut
    ((5,), (1,), (True,)),
    ((4, 7, 3), (1, 1, 1), (True, True, True)),
    ((4, 7, 3), (1, 1, 1), (True, False, True)),
    ((8, 8, 2, 5), (2, 4, 1, 3), (True, True, True, False)),
]
chosen = jax.jit(thresholds.within, static_argnums=(1, 3))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_brute_force(data):
    sizes, steps, movable = data.draw(st.sampled_from(KINDS))
    steps = np.asarray(steps)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = [rng.integers(-3, 4, size).astype(np.float32) / 2 for size in sizes]  # many ties
    price = rng.integers(1, 10**6, len(sizes)).astype(np.uint32)
    groups = tuple(
        Group(f"g{i}", size, (), step=int(step)) for i, (size, step) in enumerate(zip(sizes, steps, strict=True))
    )
    whole = np.asarray(sizes)
    least = spent(price, np.where(movable, np.minimum(steps, whole), whole))
    budget = int(least + data.draw(st.floats(0, 1.1)) * (spent(price, whole) - least))
    limit = thresholds.limit(Chain(jnp.asarray(price)), budget, groups, movable)
    flags = chosen(scores, groups, (limit,), movable)
    kept, ranked = brute_force(scores, steps, price, budget, np.asarray(movable))
    for own, flag, count, order in zip(scores, flags, kept, ranked, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(flag), np.sort(order[len(own) - count :]))


def test_all_limits_hold_and_scores_may_be_infinite():
    groups = (Group("a", 6, ()), Group("b", 6, ()))
    scores = (jnp.full(6, -jnp.inf), jnp.arange(6.0))
    limits = tuple(
        thresholds.limit(Chain(jnp.asarray(price, jnp.uint32)), budget, groups, (True, True))
        for price, budget in (((1, 1), 20), ((0, 1), 3))
    )
    kept = [int(flag.sum()) for flag in chosen(scores, groups, limits, (True, True))]
    assert kept == [5, 3]  # 5 * 3 + 3 <= 20 and no unit of b more


def drawn(data):
    """Groups of unlike sizes and steps, scores without ties, and two prices."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sizes, steps, movable = KINDS[3]
    groups = tuple(Group(f"g{i}", size, (), step=step) for i, (size, step) in enumerate(zip(sizes, steps, strict=True)))
    scores = np.split(rng.permutation(sum(sizes)).astype(np.float32), np.cumsum(sizes)[:-1])
    return groups, scores, movable, rng.integers(1, 10**5, (2, len(sizes))).astype(np.uint32)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_two_limits_hold_and_nothing_more_fits(data):
    groups, scores, movable, prices = drawn(data)
    sizes, steps = (np.asarray([getattr(group, name) for group in groups]) for name in ("size", "step"))
    fewest = np.where(movable, np.minimum(steps, sizes), sizes)
    budgets = []
    for price in prices:
        least = spent(price, fewest)
        budgets.append(int(least + data.draw(st.floats(0, 1)) * (spent(price, sizes) - least)))
    limits = tuple(
        thresholds.limit(Chain(jnp.asarray(price)), budget, groups, movable)
        for price, budget in zip(prices, budgets, strict=True)
    )
    flags = chosen(scores, groups, limits, movable)
    kept = np.asarray([flag.sum() for flag in flags])

    def hold(counts):
        return all(spent(price, counts) <= budget for price, budget in zip(prices, budgets, strict=True))

    assert hold(kept) and (kept >= fewest).all() and ((kept % steps == 0) | (kept == sizes)).all()
    for count, size, step, row in zip(kept, sizes, steps, np.eye(len(sizes), dtype=int), strict=True):
        assert count == size or not hold(kept + min(step, size - count) * row)
    for own, flag, count in zip(scores, flags, kept, strict=True):  # the best of every group
        np.testing.assert_array_equal(np.flatnonzero(flag), np.sort(np.argsort(own)[len(own) - count :]))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_second_limit_that_is_loose_changes_nothing(data):
    groups, scores, movable, prices = drawn(data)
    sizes = [group.size for group in groups]
    first, second = (Chain(jnp.asarray(price)) for price in prices)
    least = spent(prices[0], [2, 4, 1, 5])
    budget = int(least + data.draw(st.floats(0, 1)) * (spent(prices[0], sizes) - least))
    limit = thresholds.limit(first, budget, groups, movable)
    loose = thresholds.limit(second, spent(prices[1], sizes), groups, movable)
    for one, other in zip(
        chosen(scores, groups, (limit,), movable), chosen(scores, groups, (limit, loose), movable), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def vgg():
    """Of the zoo's VGG16 with an eighth of its channels the target of the preset vgg16-cifar10, by shapes alone."""
    net = jax.eval_shape(lambda: nets.build("vgg16_cifar", num_classes=10, width=0.125))
    return targets.target(net, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32), {"macs": 0.238, "parameters": 0.059})


def random_scores(groups, seed):
    """Of one scale in all groups, or (odd seeds) of many."""
    rng = np.random.default_rng(seed)
    scales = rng.lognormal(0, 1, len(groups)) if seed % 2 else np.ones(len(groups))
    return [
        (scale * rng.gamma(2.0, size=group.size)).astype(np.float32)
        for scale, group in zip(scales, groups, strict=True)
    ]


def shares(target, flags):
    """What is spent of each limit's budget."""
    kept = [int(flag.sum()) for flag in flags]
    return np.asarray([channel_costs.spent(cost, kept) / int(wide.to_numpy(budget)) for cost, budget in target.limits])


@pytest.mark.parametrize("seed", range(6))
def test_two_limits_are_both_spent(vgg, seed):
    scores, movable = random_scores(vgg.groups, seed), (True,) * len(vgg.groups)
    found = chosen(scores, vgg.groups, vgg.limits, movable)
    kept = channel_allocations.by_score(scores, vgg.groups, vgg.limits, vgg.bounds)
    for flags in (found, [np.ones(count) for count in kept]):
        assert (shares(vgg, flags) <= 1).all() and (shares(vgg, flags) >= 0.95).all()
    alone = chosen(scores, vgg.groups, vgg.limits[1:], movable)
    assert shares(vgg, alone)[0] < 0.5  # the one that binds leaves most of the first


def test_a_looser_second_limit_never_spends_less_of_the_first_and_compiles_nothing(vgg):
    scores, movable = random_scores(vgg.groups, 1), (True,) * len(vgg.groups)
    (first, second), before = vgg.limits, chosen._cache_size()
    whole = int(wide.to_numpy(second.budget)) / 0.059
    found = []
    for share in (0.01, 0.02, 0.04, 0.059, 0.08, 0.12, 0.2, 0.5, 1.0):
        limits = (first, second._replace(budget=wide.of(int(share * whole))))
        found.append(shares(vgg, chosen(scores, vgg.groups, limits, movable))[0])
    assert found[0] < 0.9 and found[-1] > 0.97
    assert (np.diff(found) > -0.05).all()  # a step of the dearest groups
    assert chosen._cache_size() <= before + 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_loosened_limit_lies_between_the_whole_cost_and_itself(share):
    groups = (Group("a", 3000, ()), Group("b", 2000, ()))
    limit = thresholds.limit(Chain(jnp.asarray([70_000, 1], jnp.uint32)), 12_345_678_901, groups, (True, True))
    loosened = int(wide.to_numpy(thresholds.loosened(limit, groups, jnp.float32(share)).budget))
    dense = 70_000 * 3000 * 2000 + 2000
    expected = 12_345_678_901 + share * (dense - 12_345_678_901)
    assert loosened == 12_345_678_901 if share == 0 else abs(loosened - expected) < 1e-6 * dense


def test_a_budget_beyond_reach_names_what_cannot_be_cut():
    groups = (Group("a", 6, ()), Group("stem", 6, ()))
    with pytest.raises(BadInput, match="11 products cannot be met: one step .* costs 12; not to be cut: stem"):
        thresholds.limit(Chain(jnp.asarray([2, 0], jnp.uint32)), 11, groups, (True, False))
