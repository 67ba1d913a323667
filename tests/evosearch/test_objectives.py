"""Fitness of masked networks against a NumPy oracle; both questions; nothing new recompiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config
from jax_prune.pruning import budgets, counts

SIZES = (84, 104, 36)
RATIOS = Bounds(np.array([0.0, 0.25, 0.0]), np.array([0.9, 0.95, 0.75]))


@pytest.mark.parametrize("chunk", [1000, 70, 33, 1])
def test_means_are_the_oracles(problem, loss, metric, oracle, chunk):
    masked = evosearch.masked_loss(*problem, loss, metric, chunk=chunk)
    assert masked.sizes == SIZES
    for kept in ([84, 104, 36], [10, 50, 20], [1, 1, 1], [0, 104, 36]):
        means = jax.jit(lambda masked, kept: masked(kept))(masked, jnp.asarray(kept))
        np.testing.assert_allclose(means, oracle(problem, kept), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [1000, 33])
def test_losses_of_single_examples_are_the_oracles_and_fillers_come_last(problem, loss, metric, oracle, chunk):
    masked = evosearch.masked_loss(*problem, loss, metric, chunk=chunk)
    kept, examples = [10, 50, 20], len(problem.batch.x)
    means = jax.jit(lambda masked, kept: masked.each(kept))(masked, jnp.asarray(kept))
    assert all(values.shape == (masked.weights.size,) and not values[examples:].any() for values in means)
    for index in (0, 40, examples - 1):
        one = problem._replace(batch=jax.tree.map(lambda leaf, at=index: leaf[at : at + 1], problem.batch))
        np.testing.assert_allclose([values[index] for values in means], oracle(one, kept), rtol=1e-4, atol=1e-6)


@given(genome=st.lists(st.floats(-5, 0, width=32), min_size=3, max_size=3), budget=st.integers(40, 190))
@settings(max_examples=40, deadline=None)
def test_budget_is_met_exactly_within_the_bounds(problem, loss, genome, budget):
    fitness = evosearch.budget_loss(evosearch.masked_loss(*problem, loss), budget, RATIOS)
    kept = np.asarray(fitness.kept(jnp.asarray(genome, jnp.float32)))
    least, most = evosearch.objectives.kept_range(SIZES, RATIOS)
    assert kept.sum() == budget and (kept >= least).all() and (kept <= most).all()


def test_allocation_to_genome_and_back(problem, loss, oracle):
    kept = np.array([30, 60, 22])
    fitness = evosearch.budget_loss(evosearch.masked_loss(*problem, loss), 112, RATIOS)
    genome = evosearch.genome_of(kept, SIZES)
    box = evosearch.genome_box(SIZES, RATIOS)
    assert (genome >= box.lower).all() and (genome <= box.upper).all()
    assert np.abs(np.asarray(fitness.kept(jnp.asarray(genome))) - kept).max() <= 1
    score = fitness(jnp.asarray(genome))
    np.testing.assert_allclose(score.value, oracle(problem, fitness.kept(jnp.asarray(genome)))[0], rtol=1e-4)
    assert score.violation == 0


def test_tolerance_counts_and_constrains(problem, loss, metric, oracle):
    masked = evosearch.masked_loss(*problem, loss, metric)
    fitness = evosearch.tolerance(masked, reference=1.0, allowed=0.25)
    for ratios in ([0, 0, 0], [0.5, 0.25, 0.5], [0.875, 0.75, 0.75]):
        kept = [size - int(ratio * size) for ratio, size in zip(ratios, SIZES, strict=True)]
        value, violation = fitness(jnp.asarray(ratios, jnp.float32))
        np.testing.assert_allclose(value, sum(kept) / sum(SIZES), rtol=1e-6)
        np.testing.assert_allclose(violation, max(0.0, 0.75 - oracle(problem, kept)[1]), atol=2e-6)


def test_tolerance_allows_exactly_what_it_says(problem, loss):
    def half(outputs, batch):
        return (jnp.arange(len(outputs)) % 2).astype(jnp.float32)

    masked = evosearch.masked_loss(*problem, loss, half)
    assert evosearch.tolerance(masked, 0.7, 0.2)(jnp.zeros(3)).violation == 0
    assert evosearch.tolerance(masked, 0.7, 0.19)(jnp.zeros(3)).violation > 0.009


def test_search_for_compression_ends_feasible(problem, loss, metric, oracle):
    masked = evosearch.masked_loss(*problem, loss, metric)
    fitness = evosearch.tolerance(masked, 1.0, 0.25)
    result = evosearch.search(jax.random.key(0), Config(at_once=24), RATIOS, fitness)
    kept = np.asarray(fitness.kept(jnp.asarray(result.best)))
    assert result.score.violation == 0 and oracle(problem, kept)[1] >= 0.75 - 2e-6
    np.testing.assert_allclose(result.score.value, kept.sum() / sum(SIZES), rtol=1e-6)
    assert result.score.value < 1


def test_rounds_with_new_weights_ranks_data_budgets_and_bounds_are_one_program(make, loss):
    traces = []

    def counted(outputs, batch):
        traces.append(1)
        return loss(outputs, batch)

    config = Config(population=6, generations=3, at_once=2, chunk=2)
    before = evosearch.compilations()
    for seed, budget in ((0, 100), (1, np.int64(60)), (2, 150), (3, jnp.int32(77))):
        masked = evosearch.masked_loss(*make(seed), counted)
        ratios = Bounds(RATIOS.lower, RATIOS.upper - seed / 100)
        fitness = evosearch.budget_loss(masked, int(budget), ratios)
        evosearch.search(jax.random.key(seed), config, evosearch.genome_box(SIZES, ratios), fitness)
    assert len(traces) == 2  # the search, and the arrangement of its examples
    assert evosearch.compilations() == before + 1


def test_bad_input(problem, loss, metric):
    masked = evosearch.masked_loss(*problem, loss)
    with pytest.raises(BadInput, match="budget 3 cannot be met: the bounds allow"):
        evosearch.budget_loss(masked, 3, RATIOS)
    with pytest.raises(BadInput, match="budget 300 cannot be met"):
        evosearch.budget_loss(masked, 300, RATIOS)
    with pytest.raises(BadInput, match="crossed"):
        evosearch.budget_loss(masked, 100, Bounds(np.ones(3), np.zeros(3)))
    with pytest.raises(BadInput, match="3 pairs in"):
        evosearch.budget_loss(masked, 100, Bounds(np.zeros(3), np.full(3, 1.5)))
    with pytest.raises(BadInput, match="needs a metric"):
        evosearch.tolerance(masked, 1.0, 0.1)
    with pytest.raises(BadInput, match="tolerance -0.1"):
        evosearch.tolerance(evosearch.masked_loss(*problem, loss, metric), 1.0, -0.1)
    with pytest.raises(BadInput, match="ranks"):
        evosearch.masked_loss(problem.net, problem.groups, problem.ranks[:2], problem.batch, loss)
    with pytest.raises(BadInput, match="leading lengths"):
        empty = jax.tree.map(lambda leaf: leaf[:0], problem.batch)
        evosearch.masked_loss(problem.net, problem.groups, problem.ranks, empty, loss)


@pytest.mark.slow
def test_budgets_of_macs_and_bytes_are_kept_and_searched_without_recompiling(problem, loss, oracle):
    masked = evosearch.masked_loss(*problem, loss)
    config = Config(population=6, generations=2, at_once=2)
    example = problem.batch.x[:1]
    for cost in (
        budgets.macs(problem.net, problem.groups, example),
        budgets.packed_bytes(problem.net.params, problem.groups),
    ):
        least, most = evosearch.reachable(masked.groups, RATIOS, cost)
        before = evosearch.compilations()
        for share in (0.1, 0.5, 2.0):
            budget = int(least + share * (most - least))
            fitness = evosearch.budget_loss(masked, budget, RATIOS, cost)
            result = evosearch.search(jax.random.key(0), config, fitness.box, fitness)
            kept = np.asarray(fitness.kept(jnp.asarray(result.best)))
            assert budgets.spent(cost, kept) <= budget
            for index in np.flatnonzero(kept < evosearch.objectives.kept_range(SIZES, RATIOS)[1]):
                assert budgets.spent(cost, kept + np.eye(3, dtype=int)[index]) > budget
            np.testing.assert_allclose(result.score.value, oracle(problem, kept)[0], rtol=1e-4)
        assert evosearch.compilations() == before + 1
        with pytest.raises(BadInput, match=f"the bounds allow {least} to {most} {cost.name}"):
            evosearch.budget_loss(masked, least - 1, RATIOS, cost)
        with pytest.raises(BadInput, match="dense grid"):
            evosearch.grid.search(fitness)


def test_steps_and_ties_hold_under_a_budget_and_a_tolerance(problem, loss, metric):
    one, two, three = problem.groups
    groups = (one._replace(step=8, tied="both"), two, three._replace(step=4, tied="both"))
    masked = evosearch.masked_loss(problem.net, groups, problem.ranks, problem.batch, loss, metric)
    budgeted = evosearch.budget_loss(masked, 100, RATIOS)
    with pytest.raises(BadInput, match="a dense grid over groups with steps or ties"):
        evosearch.grid.search(budgeted)
    tolerant = evosearch.tolerance(masked, 1.0, 0.25, RATIOS)
    for fitness in (budgeted, tolerant):
        assert fitness.box.lower.shape == (2,)
        result = evosearch.search(jax.random.key(0), Config(population=8, generations=4), fitness.box, fitness)
        for kept in evosearch.history.seen(result.info, fitness)["kept"].reshape(-1, 3):
            assert (kept[0] % 8 == 0 or kept[0] == 84) and kept[2] % 4 == 0
            assert abs(kept[0] / 84 - kept[2] / 36) <= 8 / 84 + 4 / 36
            assert fitness is tolerant or kept.sum() == 100  # the middle group takes any count


def test_scores_are_no_ranks_and_a_loss_has_one_number_an_example(problem, loss):
    with pytest.raises(BadInput, match="give masks.ranks"):
        evosearch.masked_loss(problem.net, problem.groups, [rank * 0.5 for rank in problem.ranks], problem.batch, loss)
    fitness = evosearch.budget_loss(evosearch.masked_loss(*problem, lambda o, b: o - b.y), 100, RATIOS)
    with pytest.raises(BadInput, match=r"loss returned \[70, 4\]"):
        evosearch.search(jax.random.key(0), Config(population=4, generations=1), fitness.box, fitness)
    averaging = evosearch.masked_loss(*problem, loss, lambda outputs, batch: jnp.mean(outputs))
    fitness = evosearch.tolerance(averaging, 1.0, 0.1, RATIOS)
    with pytest.raises(BadInput, match=r"metric returned \[\] for 70 examples"):
        evosearch.search(jax.random.key(0), Config(population=4, generations=1), fitness.box, fitness)
    fitness = evosearch.budget_loss(evosearch.masked_loss(*problem, loss), 100, RATIOS)
    with pytest.raises(BadInput, match="the fitness's own box"):
        evosearch.search(jax.random.key(0), Config(population=4), Bounds(np.zeros(2), np.ones(2)), fitness)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31))
def test_the_genome_of_an_allocation_leads_back_to_it(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 10_000, 6)
    kept = rng.integers(1, sizes + 1)
    everything = Bounds(np.zeros(6, np.float32), np.ones(6, np.float32))
    genome = jnp.asarray(evosearch.genome_of(kept, sizes))
    np.testing.assert_array_equal(counts.project(genome, sizes, int(kept.sum()), everything), kept)
