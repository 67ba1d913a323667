"""Budgets in weights, MACs and bytes against Python integers: never exceeded, and no step more fits."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets, storage
from jax_prune.pruning import budgets, costs, counts, lattice, masks, scores, wide
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.groups import Rule
from jax_prune.types import Bounds, Group, Slot

GROUPS = (
    Group("a", 7, (Slot("a"),)),
    Group("b", 30_100, (Slot("b"),), step=64),
    Group("c", 100_000_000, (Slot("c"),)),
    Group("d", 100_000_003, (Slot("d"),), step=8),
)
PRICES = (50_176, 3, 12_544, 2**31 + 5)
COST = budgets.Priced(
    wide.of(0), jnp.asarray(PRICES, jnp.uint32)[:, None], jnp.asarray([[g.size] for g in GROUPS], jnp.int32), "MACs"
)
project = jax.jit(budgets.project, static_argnums=1)
GENOMES = st.lists(st.floats(-12, 3, width=32), min_size=4, max_size=4).map(np.float32)
RATIOS = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4).map(np.float32)


def units(group, ratio):
    """Kept units at a ratio, exactly."""
    return group.size - math.floor(Fraction(float(ratio)) * group.size)


def allowed(group, lower, upper):
    """The counts next to the two bounds that a group may have: whole steps, or all of it."""
    low, high = units(group, upper), units(group, lower)
    most = group.size if high == group.size else high // group.step * group.step
    least = group.size if low == group.size else min(-(-low // group.step) * group.step, group.size)
    return least, most


def priced(kept):
    return sum(price * int(count) for price, count in zip(PRICES, kept, strict=True))


@settings(deadline=None, max_examples=80)
@given(genome=GENOMES, one=RATIOS, other=RATIOS, share=st.floats(0, 1))
def test_a_budget_is_kept_and_used_up_exactly(genome, one, other, share):
    """At layers of 1e8 weights and costs of 61 bits, in whole steps, within bounds."""
    bounds = Bounds(np.minimum(one, other) / 2, np.maximum(one, other))
    ends = [allowed(group, *pair) for group, pair in zip(GROUPS, zip(*bounds, strict=True), strict=True)]
    slack = [2 * group.step + (group.size >> 21) for group in GROUPS]
    low, high = (np.asarray(end, np.int64) for end in lattice.kept_range(lattice.of(GROUPS), bounds))
    for index, (least, most) in enumerate(ends):
        if least <= most and GROUPS[index].step == 1:
            assert (low[index], high[index]) == (least, most)
        assert abs(low[index] - least) <= slack[index] and abs(high[index] - most) <= slack[index]
    budget = priced(low) + int(share * (priced(high) - priced(low)))
    kept = np.asarray(project(genome, GROUPS, COST, wide.of(budget), bounds), np.int64)
    assert (low <= kept).all() and (kept <= high).all()
    assert all(count % group.step == 0 or count == group.size for count, group in zip(kept, GROUPS, strict=True))
    assert priced(kept) <= budget
    for index, group in enumerate(GROUPS):
        more = min(kept[index] + group.step, group.size)
        assert kept[index] == high[index] or priced(kept) + PRICES[index] * (more - kept[index]) > budget


@settings(deadline=None, max_examples=40)
@given(genome=GENOMES, share=st.floats(0.001, 1))
def test_weights_without_steps_are_met_exactly_as_counts_does(genome, share):
    groups = tuple(group._replace(step=1) for group in GROUPS)
    budget = int(share * sum(group.size for group in groups))
    bounds = Bounds(np.zeros(4, np.float32), np.full(4, 1, np.float32))
    kept = np.asarray(project(genome, groups, budgets.weights(groups), wide.of(budget), bounds), np.int64)
    assert kept.sum() == budget
    other = np.asarray(counts.project(genome, [group.size for group in groups], budget, bounds), np.int64)
    np.testing.assert_allclose(kept, other, atol=1 + 2e-5 * budget)  # float32 exponents apart


def test_shares_follow_the_genome():
    groups = (Group("a", 1000, ()), Group("b", 1000, ()))
    cost = budgets.Priced(wide.of(0), jnp.asarray([[10], [1]], jnp.uint32), jnp.full((2, 1), 1000), "MACs")
    kept = project(jnp.log(jnp.float32([0.1, 0.3])), groups, cost, wide.of(1300), Bounds(np.zeros(2), np.ones(2)))
    np.testing.assert_array_equal(kept, [100, 300])


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.0, 1.0), genome=st.floats(-3, 0, width=32))
def test_tied_groups_share_one_ratio(share, genome):
    groups = (Group("a", 1010, (), 4, "both"), Group("b", 300, ()), Group("c", 77, (), 1, "both"))
    cost = budgets.weights(groups)
    budget = 10 + int(share * (1387 - 10))
    bounds = Bounds(np.zeros(3, np.float32), np.full(3, 0.999, np.float32))
    kept = np.asarray(project(jnp.float32([0, genome]), groups, cost, wide.of(budget), bounds))
    assert abs(kept[0] / 1010 - kept[2] / 77) <= 4 / 1010 + 1 / 77
    assert kept.sum() <= budget and (kept[1] == 300 or kept.sum() == budget)
    assert lattice.of(groups).names == ("both", "b")


def test_many_candidates_and_budgets_are_one_program():
    traces = []

    @jax.jit
    def counted(genomes, cost, budget, bounds):
        traces.append(1)
        return jax.vmap(lambda genome: budgets.project(genome, GROUPS, cost, budget, bounds))(genomes)

    genomes = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for budget, upper in ((10**12, 1.0), (10**15, 0.9999), (10**17, 0.9999999)):
        bounds = Bounds(np.zeros(4, np.float32), np.full(4, upper, np.float32))
        for genome, kept in zip(genomes, counted(genomes, COST, wide.of(budget), bounds), strict=True):
            np.testing.assert_array_equal(kept, project(genome, GROUPS, COST, wide.of(budget), bounds))
            assert priced(kept) <= budget
    assert len(traces) == 1


@pytest.fixture(scope="module", params=["lenet5", "lenet300"])
def net(request):
    return nets.build(request.param)


EXAMPLE = np.zeros((1, 28, 28, 1), np.float32)


@pytest.mark.parametrize("rules", [(), (Rule("ip1/kernel", frozen=True), Rule("ip./kernel", group="ips"))])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), shares=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_models_hold_whichever_entries_stay(net, rules, seed, shares):
    groups = grouping.weight_groups(net.params, rules)
    kept = [max(1, int(share * group.size)) for share, group in zip(shares, groups, strict=False)]
    ranks = masks.ranks(scores.random(jax.random.key(seed), groups))
    mask = masks.from_kept(net.params, groups, ranks, jnp.asarray(kept))
    asked = budgets.spent(budgets.macs(net, groups, EXAMPLE), kept)
    assert costs.kept_macs(net, mask, EXAMPLE) <= asked
    flags, leaves = storage.flatten_paths(mask), storage.flatten_paths(net.params)
    packed = sum(costs.packed_size(np.broadcast_to(flags[path], np.shape(leaf))).bytes for path, leaf in leaves.items())
    assert packed <= budgets.spent(budgets.packed_bytes(net.params, groups), kept)


def test_kernels_alone_are_counted_exactly(net):
    groups = grouping.weight_groups(net.params, biases=False)
    kept = [max(1, group.size // 3) for group in groups]
    mask = masks.from_kept(net.params, groups, masks.ranks(scores.magnitude(net.params, groups)), jnp.asarray(kept))
    assert budgets.spent(budgets.macs(net, groups, EXAMPLE), kept) == costs.kept_macs(net, mask, EXAMPLE)
    whole = [group.size for group in groups]
    assert budgets.spent(budgets.macs(net, groups, EXAMPLE), whole) == sum(costs.macs(net, EXAMPLE).values())
    biases = sum(4 * leaf.size for path, leaf in storage.flatten_paths(net.params).items() if path.endswith("bias"))
    alone = sum(
        int(wide.to_numpy(costs.packed_bound(group.size, count))) for group, count in zip(groups, kept, strict=True)
    )
    assert budgets.spent(budgets.packed_bytes(net.params, groups), kept) == alone + biases


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(0, 25_050), min_size=2, max_size=2))
def test_costs_never_fall_as_more_is_kept(counts):
    groups = grouping.weight_groups(nets.build("lenet5").params)
    for cost in (budgets.packed_bytes(nets.build("lenet5").params, groups), budgets.weights(groups)):
        few, many = (wide.to_numpy(cost.each(jnp.full(4, count, jnp.int32))) for count in sorted(counts))
        assert (few <= many).all()
