"""Every allocation spends exactly its budget within its bounds, and follows its paper's formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import allocations, groups, scores

PARAMS = nets.build("lenet300").params
GROUPS = groups.weight_groups(PARAMS, biases=False)
SIZES = groups.sizes(GROUPS)
SCORES = [np.asarray(score) for score in scores.magnitude(PARAMS, GROUPS)]
ONES = np.ones(3, np.int64)
SWEPT = np.array([0.0, 0.3, 0.6, 0.9])
CURVES = np.array([[1.0, 1.1, 1.2, 9.0], [1.0, 0.9, 1.5, np.nan], [1.0, 1.4, 2.0, np.inf]])

EVERY = {
    "uniform": lambda low, high, k: allocations.uniform(low, high, SIZES, k),
    "erk": lambda low, high, k: allocations.erk(PARAMS, GROUPS, low, high, k),
    "lamp": lambda low, high, k: allocations.lamp(PARAMS, GROUPS, low, high, k),
    "global": lambda low, high, k: allocations.global_magnitude(SCORES, low, high, k),
    "greedy": lambda low, high, k: allocations.greedy(SWEPT, CURVES, low, high, SIZES, k),
}


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_budget_and_bounds_hold_exactly(name, data):
    shares = data.draw(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
    high = np.maximum(1, (SIZES * np.asarray(shares)).astype(np.int64))
    low = np.maximum(1, high // data.draw(st.integers(1, 50)))
    budget = data.draw(st.integers(int(low.sum()), int(high.sum())))
    kept = EVERY[name](low, high, budget)
    assert kept.sum() == budget
    assert (low <= kept).all() and (kept <= high).all()


def test_uniform_is_the_same_share_everywhere():
    np.testing.assert_allclose(EVERY["uniform"](ONES, SIZES, 26_620) / SIZES, 0.1, atol=1e-3)


def test_erk_densities_are_in_the_papers_proportion():
    density = EVERY["erk"](ONES, SIZES, 10_000) / SIZES
    expected = np.asarray([(784 + 300) / (784 * 300), (300 + 100) / (300 * 100), (100 + 10) / (100 * 10)])
    np.testing.assert_allclose(density / density[0], expected / expected[0], rtol=2e-2)


def test_global_magnitude_is_one_threshold():
    kept = EVERY["global"](ONES, SIZES, 20_000)
    threshold = np.sort(np.concatenate(SCORES))[-20_000]
    np.testing.assert_array_equal(kept, [(score >= threshold).sum() for score in SCORES])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), share=st.floats(0.25, 1.0))
def test_greedy_takes_the_cheapest_step_an_entry_every_time(seed, share):
    """Against the rule written out over lists of steps; budgets that the sweeps themselves reach."""
    rng = np.random.default_rng(seed)
    sizes, ratios = rng.integers(10, 500, 4), np.array([0.0, 0.25, 0.5, 0.75])
    loss = 1 + np.cumsum(rng.normal(0.2, 0.3, (4, 4)), axis=1)
    budget = max(round(share * sizes.sum()), sum(-(-int(size) // 4) for size in sizes))
    points = [[-int(-(1 - ratio) * size // 1) for ratio in ratios] for size in sizes]
    kept, place = [int(size) for size in sizes], [0] * 4
    while sum(kept) > budget:
        steps = {}
        for g, p in enumerate(place):
            if p < 3:
                rise, freed = max(loss[g, p + 1] - loss[g, p], 0), points[g][p] - points[g][p + 1]
                steps[g] = rise / freed if freed else 0
        cheapest = min(steps, key=steps.get)
        place[cheapest] += 1
        kept[cheapest] = points[cheapest][place[cheapest]]
    kept[cheapest if budget < sizes.sum() else 0] += budget - sum(kept)
    found = allocations.greedy(ratios, loss, np.ones(4, int), sizes, sizes, budget)
    np.testing.assert_array_equal(found, kept)


def test_greedy_goes_on_in_proportion_where_the_sweeps_end():
    found = allocations.greedy(SWEPT, CURVES, ONES, SIZES, SIZES, 1000)
    np.testing.assert_allclose(found / SIZES, 1000 / SIZES.sum(), atol=1 / SIZES.min())


def test_lamp_is_its_formula():
    """Lee et al. 2021, equation 2, written out by hand on the smallest layer, all layers compared."""
    lamp = []
    for score in SCORES:
        square = np.sort(score.astype(np.float64)) ** 2
        lamp.append(
            np.asarray(
                [square[i] / square[i:].sum() for i in range(len(square))]
                if len(square) < 2000
                else square / np.cumsum(square[::-1])[::-1]
            )
        )
    threshold = np.sort(np.concatenate(lamp))[-5_000]
    np.testing.assert_allclose(
        EVERY["lamp"](ONES, SIZES, 5_000), [(score >= threshold).sum() for score in lamp], atol=1
    )


@pytest.mark.parametrize(("budget", "says"), [(2, "below the 3 weights"), (300_000, "above the 266200 weights")])
@pytest.mark.parametrize("name", EVERY)
def test_an_impossible_budget_says_why(name, budget, says):
    with pytest.raises(BadInput, match=says):
        EVERY[name](ONES, SIZES, budget)
