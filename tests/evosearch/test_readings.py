"""What is read off a search: history, probe, sensitivity, and the dense grid."""

from __future__ import annotations

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, grid, history, probe, sensitivity

SIZES = (84, 104, 36)
RATIOS = Bounds(np.zeros(3), np.full(3, 0.9))
NAMES = ("one", "two", "three")


def budget_fitness(problem, loss, budget=70, bounds=RATIOS):
    return evosearch.budget_loss(evosearch.masked_loss(*problem, loss), budget, bounds)


def test_history_holds_every_vector_and_score_exactly(problem, loss, tmp_path):
    fitness = budget_fitness(problem, loss)
    config = Config(population=6, generations=3)
    result = evosearch.search(jax.random.key(0), config, evosearch.genome_box(SIZES, RATIOS), fitness)
    history.write(tmp_path / "search_history.csv", result.info, NAMES, fitness)
    rows = list(csv.DictReader((tmp_path / "search_history.csv").open()))
    assert len(rows) == 24 and list(rows[0])[8:] == [*NAMES, *(f"kept/{name}" for name in NAMES)]
    for index, row in enumerate(rows):
        place = divmod(index, 6)
        assert (int(row["generation"]), int(row["candidate"])) == place
        assert np.float32(row["value"]) == result.info.score.value[place]
        assert [np.float32(row[name]) for name in NAMES] == list(result.info.vectors[place])
        assert int(row["accepted"]) == result.info.accepted[place]
        assert int(row["exact"]) == result.info.exact[place] and np.float32(row["work"]) == result.info.work[place]
        assert float(row["share"]) == 1
        assert sum(int(row[f"kept/{name}"]) for name in NAMES) == 70
    with pytest.raises(BadInput, match="2 names"):
        history.rows(history.seen(result.info), NAMES[:2])


def test_history_leaves_out_slots_that_are_out_of_use(tmp_path):
    config = Config(algorithm="lshade", population=9, generations=6)
    box = Bounds(np.zeros(3), np.ones(3))
    info = evosearch.search(jax.random.key(0), config, box, jax.numpy.sum).info
    history.write(tmp_path / "search_history.csv", info, NAMES)
    rows = list(csv.DictReader((tmp_path / "search_history.csv").open()))
    assert len(rows) == config.evaluations == 63 < info.evaluated.size
    values = [np.float32(row["value"]) for row in rows]
    np.testing.assert_array_equal(values, info.score.value[info.evaluated])
    assert [int(row["generation"]) for row in rows] == list(np.repeat(np.arange(len(config.sizes)), config.sizes))


def test_probe_returns_a_width_that_fits_and_was_measured():
    genomes = jnp.ones((12, 3))
    timings = probe.measure(jnp.sum, genomes, (1, 4, 50))
    assert [timing.at_once for timing in timings] == [1, 4, 12][: len(timings)]
    assert probe.at_once(jnp.sum, genomes, (1, 4)) in (1, 4, 12)


def test_probe_heeds_the_memory_limit():
    def hungry(genome):
        return jnp.linalg.norm(jnp.sort(jnp.outer(jnp.arange(50_000.0), genome), axis=0))

    genomes = jnp.ones((16, 3))
    one = probe.measure(hungry, genomes, (1,))[0].bytes
    assert one > 50_000 * 4
    limited = probe.measure(hungry, genomes, (1, 16), memory_limit=2 * one)
    run = [timing.at_once for timing in limited if timing.seconds is not None]
    assert run == [1] and probe.fastest(limited) == 1
    with pytest.raises(BadInput, match="the limit is 1,000: raise it"):
        probe.measure(hungry, genomes, (1, 16), memory_limit=1000)


def test_fastest_is_the_least_seconds_a_candidate():
    timings = [
        probe.Timing(1, 0.3, 10),
        probe.Timing(4, 0.1, 40),
        probe.Timing(8, 0.2, 80),
        probe.Timing(9, None, 0),
    ]
    assert probe.fastest(timings) == 4


def test_sensitivity_sweeps_one_group_at_a_time(problem, loss, metric, oracle):
    ratios = [0.0, 0.25, 0.5, 0.75]
    curves = sensitivity.curves(evosearch.masked_loss(*problem, loss, metric), ratios, at_once=4)
    assert curves.loss.shape == curves.metric.shape == (3, 4)
    for group, point in itertools.product(range(3), range(4)):
        kept = list(SIZES)
        kept[group] -= int(ratios[point] * SIZES[group])
        expected = oracle(problem, kept)
        np.testing.assert_allclose(curves.loss[group, point], expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(curves.metric[group, point], expected[1], atol=1e-6)
    assert curves.dense_metric == pytest.approx(1) and curves.dense_loss == pytest.approx(0, abs=1e-6)


def test_bounds_are_cut_where_the_loss_rises():
    loss = np.array([[1.0, 1.1, 1.5, 3.0], [1.0, 1.0, 1.0, 1.0], [1.0, np.nan, 1.0, 1.0]])
    curves = sensitivity.Curves(np.array([0.0, 0.4, 0.8, 0.9], np.float32), loss, loss, 1.0, 1.0)
    box = sensitivity.bounds(curves, 0.3, Bounds(np.array([0, 0, 0.1]), np.array([1, 0.95, 1])))
    np.testing.assert_allclose(box.upper, [0.6, 0.95, 0.1], rtol=1e-6)
    np.testing.assert_allclose(box.lower, [0, 0, 0.1], rtol=1e-6)


def test_bounds_leave_room_for_the_budget():
    loss = 1 + np.array([[0.0, 1.0, 10.0], [0.0, 2.0, 20.0]])
    curves = sensitivity.Curves(np.array([0.0, 0.5, 0.99], np.float32), loss, loss, 1.0, 1.0)
    allowed = Bounds(np.zeros(2), np.full(2, 0.99))
    tight = sensitivity.bounds(curves, 0.1, allowed)
    wide = sensitivity.bounds(curves, 0.1, allowed, (1000, 1000), 200)
    assert (tight.upper < 0.1).all()
    assert evosearch.reachable((1000, 1000), wide)[0] <= 100 and (wide.upper <= np.float32(0.99)).all()


@pytest.mark.parametrize("ratios", [[0.5, 0.1], [0.0, 1.2], [], [np.nan], [0.5, 0.5]])
def test_sensitivity_refuses_a_bad_sweep(problem, loss, ratios):
    with pytest.raises(BadInput, match="sensitivity ratios"):
        sensitivity.curves(evosearch.masked_loss(*problem, loss), ratios)


def test_allocations_are_all_there_are_when_points_suffice():
    least, most = np.array([1, 2, 1]), np.array([5, 4, 9])
    found = grid.allocations(10, least, most, least, most, 200)
    every = itertools.product(*(range(low, high + 1) for low, high in zip(least, most, strict=True)))
    assert sorted(map(tuple, found)) == sorted(kept for kept in every if sum(kept) == 10)


def test_search_comes_within_one_percent_of_the_grids_optimum(problem, loss, oracle):
    fitness = budget_fitness(problem, loss, budget=112)
    oracle_grid = grid.search(fitness, 24, at_once=24)
    assert (oracle_grid.kept.sum(axis=1) == 112).all() and len(set(map(tuple, oracle_grid.kept))) > 300
    np.testing.assert_allclose(oracle_grid.best_loss, oracle(problem, oracle_grid.best)[0], rtol=1e-4)
    assert oracle_grid.best_loss == oracle_grid.loss.min()
    config = Config(generations=40, at_once=24)
    box = evosearch.genome_box(SIZES, RATIOS)
    best = [evosearch.search(jax.random.key(s), config, box, fitness).score.value for s in range(7)]
    assert np.median(best) <= 1.01 * oracle_grid.best_loss


def test_grid_is_for_few_groups(problem, loss):
    masked = evosearch.masked_loss(problem.net, problem.groups[:1], problem.ranks[:1], problem.batch, loss)
    with pytest.raises(BadInput, match="grid over 1 groups"):
        grid.search(evosearch.budget_loss(masked, 40, Bounds(np.zeros(1), np.ones(1))))
