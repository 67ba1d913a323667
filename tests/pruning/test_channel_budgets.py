"""Channels onto budgets: within all of them, none could keep a step more; against every allocation there is."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_budgets, channel_costs, channel_projection, wide
from jax_prune.pruning.channel_budgets import limit
from jax_prune.types import Bounds, Group, Slot

project = jax.jit(channel_projection.project, static_argnums=1)

# a chain of layers, each as wide as its group, into ten classes: 3 - a - b - c - 10, at pixels of 64, 16 and 1
SIZES, PIXELS = (12, 20, 16), (64, 16, 1)
SHAPES = {"a": (3, 12), "b": (12, 20), "c": (20, 16), "d": (16, 10)}


def chain(steps=(1, 1, 1), tied=("", "", "")):
    slots = [(Slot(here, 1), Slot(there, 0)) for here, there in ("ab", "bc", "cd")]
    return tuple(
        Group(name, size, slot, step, tie)
        for name, size, slot, step, tie in zip("abc", SIZES, slots, steps, tied, strict=True)
    )


def price(kept, prices):
    a, b, c = (int(count) for count in kept)
    return sum(p * n for p, n in zip(prices, (3 * a, a * b, b * c, 10 * c), strict=True))


ONES, PRODUCTS = (1, 1, 1, 1), (*PIXELS, 1)
COSTS = {
    prices: channel_costs.priced(SHAPES, chain(), dict(zip(SHAPES, prices, strict=True)), "units")
    for prices in (ONES, PRODUCTS)
}
GENOMES = st.lists(st.floats(-6, 2, width=32), min_size=3, max_size=3).map(np.float32)
STEPS = st.sampled_from([(1, 1, 1), (5, 3, 16)])


def counts_of(group, low=1):
    """Every count that a group may have: whole steps, or all of it."""
    return [n for n in (*range(group.step, group.size, group.step), group.size) if n >= low]


@given(fewest=st.tuples(*(st.integers(0, size) for size in SIZES)), steps=STEPS)
@settings(deadline=None, max_examples=60)
def test_bounds_of_fewest_units_are_those_counts_up_to_whole_steps(fewest, steps):
    groups = chain(steps)
    low, high = channel_budgets.kept_range(groups, channel_budgets.at_least(groups, fewest))
    expected = [next(n for n in counts_of(group) if n >= count) for group, count in zip(groups, fewest, strict=True)]
    assert low.tolist() == expected and high.tolist() == list(SIZES)


@pytest.mark.parametrize("size", [7, 4096, 999_983])
def test_no_count_of_a_large_group_is_missed_by_rounding(size):
    groups = (Group("a", size, (Slot("a", 1),)),)
    for fewest in (1, 2, size // 3, size // 2 + 1, size - 1, size):
        assert channel_budgets.kept_range(groups, channel_budgets.at_least(groups, [fewest]))[0] == fewest


@settings(deadline=None, max_examples=60)
@given(
    genome=GENOMES, steps=STEPS, share=st.floats(0, 1), other=st.floats(0, 1.2), most=st.sampled_from([1.0, 0.7, 0.3])
)
def test_all_budgets_hold_and_no_group_has_room_for_a_step_more(genome, steps, share, other, most):
    groups = chain(steps)
    bounds = Bounds(np.zeros(3, np.float32), np.full(3, most, np.float32))
    low, high = channel_budgets.kept_range(groups, bounds)
    budgets = [
        price(low, prices) + int(part * (price(high, prices) - price(low, prices)))
        for prices, part in ((PRODUCTS, share), (ONES, other))
    ]
    limits = tuple(limit(COSTS[prices], budget) for prices, budget in zip((PRODUCTS, ONES), budgets, strict=True))
    kept = np.asarray(project(genome, groups, limits, bounds), np.int64)
    allowed = [counts_of(group, least) for group, least in zip(groups, low, strict=True)]
    assert all(count in counts for count, counts in zip(kept, allowed, strict=True))

    def fits(kept):
        return price(kept, PRODUCTS) <= budgets[0] and price(kept, ONES) <= budgets[1]

    assert fits(kept)
    for index, counts in enumerate(allowed):
        above = [count for count in counts if count > kept[index]]
        assert not above or not fits([*kept[:index], above[0], *kept[index + 1 :]])


@settings(deadline=None, max_examples=30)
@given(kept=st.tuples(*(st.integers(1, size) for size in SIZES)))
def test_every_allocation_without_room_is_reached_by_its_own_genome(kept):
    """Of all there are: those that spend a budget so that no group could keep one more."""
    groups, everything = chain(), channel_budgets.anything(chain())
    budget = price(kept, PRODUCTS)
    genome = jnp.log(jnp.asarray(kept, jnp.float32) / jnp.asarray(SIZES))
    found = project(genome, groups, (limit(COSTS[PRODUCTS], budget),), everything)
    room = [
        index
        for index, size in enumerate(SIZES)
        if kept[index] < size and price(np.asarray(kept) + np.eye(3, dtype=int)[index], PRODUCTS) <= budget
    ]
    assert not room  # every step costs something
    np.testing.assert_array_equal(found, kept)


def test_the_chosen_budget_is_met_within_one_unit_over_every_allocation():
    """The share left over is less than the cheapest step of any group; brute force knows the best there is."""
    groups, everything = chain(), channel_budgets.anything(chain())
    every = np.asarray(list(itertools.product(*(range(1, size + 1) for size in SIZES))))
    spent = np.asarray([price(kept, PRODUCTS) for kept in every])
    for budget in (700, 2_500, 5_000):
        rng = np.random.default_rng(budget)
        genomes = rng.uniform(-3, 0, (40, 3)).astype(np.float32)
        limits = (limit(COSTS[PRODUCTS], budget),)
        found = np.asarray(jax.vmap(lambda g, limits=limits: project(g, groups, limits, everything))(genomes))
        for kept in found:
            steps = [price(kept + row, PRODUCTS) - price(kept, PRODUCTS) for row in np.eye(3, dtype=int)]
            open_steps = [step for step, count, size in zip(steps, kept, SIZES, strict=True) if count < size]
            assert 0 <= budget - price(kept, PRODUCTS) < min(open_steps)
        assert spent[spent <= budget].max() >= max(price(kept, PRODUCTS) for kept in found)
        assert len(np.unique(found, axis=0)) > 5


def test_shares_follow_the_genome():
    shapes = {"a": (2000, 3), "b": (3, 2000), "c": (1000,)}
    groups = (Group("a", 2000, (Slot("a", 0),)), Group("b", 2000, (Slot("b", 1),)), Group("c", 1000, (Slot("c", 0),)))
    cost = channel_costs.priced(shapes, groups, dict.fromkeys(shapes, 1), "x")
    genome = jnp.log(jnp.float32([0.1, 0.3, 0.2]))
    kept = project(genome, groups, (limit(cost, 3 * 200 + 3 * 600 + 200),), channel_budgets.anything(groups))
    np.testing.assert_array_equal(kept, [200, 600, 200])
    # a second budget bends it for the one group that spends of it; the others go on in proportion
    second = channel_costs.priced(shapes, groups, {"b": 1}, "y")
    limits = (limit(cost, 3 * 200 + 3 * 600 + 200), limit(second, 3 * 300))
    kept = np.asarray(project(genome, groups, limits, channel_budgets.anything(groups)))
    assert kept[1] == 300 and kept[0] * 3 + kept[2] == 1700
    assert abs(kept[0] / 2000 - kept[2] / 1000 / 2) < 0.002


def test_the_published_target_of_vgg16_is_met_in_both(vgg16):
    """MACs to a share of 0.238, parameters to 0.059 at most (Qi et al. 2021), whatever is asked for."""
    shapes, groups, macs, parameters = vgg16
    sizes = [group.size for group in groups]
    limits = tuple(
        limit(cost, int(share * channel_costs.spent(cost, sizes)))
        for cost, share in ((macs, 0.238), (parameters, 0.059))
    )
    everything, rng = channel_budgets.anything(groups), np.random.default_rng(0)
    for genome in (np.zeros(13), rng.uniform(-1, 0, 13), rng.uniform(-2, 0, 13)):
        kept = np.asarray(project(genome.astype(np.float32), groups, limits, everything), np.int64)
        left = [int(wide.to_numpy(budget)) - channel_costs.spent(cost, kept) for cost, budget in limits]
        assert min(left) >= 0 and (kept >= 1).all()
        steps = [
            channel_costs.spent(macs, kept + row) - channel_costs.spent(macs, kept) for row in np.eye(13, dtype=int)
        ]
        assert left[0] < max(steps)


@pytest.fixture(scope="module")
def vgg16():
    """At 32 pixels, without its dense layers: shapes, groups, MACs, parameters."""
    widths = (64, 64, 128, 128, 256, 256, 256, *[512] * 6)
    pixels = (1024, 1024, 256, 256, 64, 64, 64, 16, 16, 16, 4, 4, 4)
    names = [f"conv{number:02}" for number in range(13)] + ["head"]
    kernels = [(3, 3, into, out) for into, out in zip((3, *widths), widths, strict=False)] + [(512, 10)]
    shapes = dict(zip(names, kernels, strict=True))
    groups = tuple(
        Group(here, width, (Slot(here, 3), Slot(there, len(shapes[there]) - 2)))
        for here, there, width in zip(names, names[1:], widths, strict=False)
    )
    macs = channel_costs.priced(shapes, groups, dict(zip(names, (*pixels, 1), strict=True)), "MACs")
    return shapes, groups, macs, channel_costs.priced(shapes, groups, dict.fromkeys(names, 1), "parameters")


@settings(deadline=None, max_examples=20)
@given(share=st.floats(0, 1), genome=st.floats(-3, 0, width=32))
def test_tied_groups_have_one_ratio(share, genome):
    groups = chain(tied=("both", "", "both"))
    least, most = price((1, 1, 1), ONES), price(SIZES, ONES)
    budget = least + int(share * (most - least))
    kept = np.asarray(
        project(jnp.float32([0, genome]), groups, (limit(COSTS[ONES], budget),), channel_budgets.anything(groups))
    )
    assert abs(kept[0] / 12 - kept[2] / 16) <= 1 / 12 and price(kept, ONES) <= budget


def test_many_candidates_new_budgets_and_bounds_are_one_program():
    traces = []

    @jax.jit
    def counted(genomes, limits, bounds):
        traces.append(1)
        return jax.vmap(lambda genome: channel_projection.project(genome, chain(), limits, bounds))(genomes)

    genomes = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for budget, most in ((900, 1.0), (3000, 0.9), (5000, 0.5)):
        limits, bounds = (limit(COSTS[PRODUCTS], budget),), Bounds(jnp.zeros(3), jnp.full(3, most))
        for genome, kept in zip(genomes, counted(genomes, limits, bounds), strict=True):
            np.testing.assert_array_equal(kept, project(genome, chain(), limits, bounds))
    assert len(traces) == 1


def test_odd_genomes_end():
    limits = (limit(COSTS[PRODUCTS], 3000),)
    for genome in ([np.nan, 0, 0], [np.inf, -np.inf, 0], [0, 0, 0], [1e30, -1e30, 5]):
        kept = np.asarray(project(jnp.float32(genome), chain(), limits, channel_budgets.anything(chain())))
        assert (kept >= 1).all() and price(kept, PRODUCTS) <= 3000


def test_onto_is_checked_and_bad_input_is_one_line():
    groups, everything = chain(), channel_budgets.anything(chain())
    kept = channel_budgets.onto((limit(COSTS[ONES], 300),), groups, everything, [0.5, 0.5, 0.5])
    assert kept.dtype == np.int64 and price(kept, ONES) <= 300
    with pytest.raises(BadInput, match=r"budget 14 of 756 units cannot be met: 15 are left"):
        channel_budgets.onto((limit(COSTS[ONES], 14),), groups, everything, np.ones(3))
    assert price((1, 1, 1), ONES) == 15
    with pytest.raises(BadInput, match="give at least one limit"):
        channel_budgets.check((), groups, everything)


@settings(deadline=None, max_examples=60)
@given(value=st.integers(0, 2**40), factor=st.integers(0, 2**22))
def test_wide_times_a_factor(value, factor):
    assert int(wide.to_numpy(wide.scaled(wide.of(value), np.uint32(factor)))) == value * factor
