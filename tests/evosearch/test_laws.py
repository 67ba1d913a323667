"""What holds for every row of the table of algorithms."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, Score

LOWER, UPPER = np.array([-3.0, 0.5, 2.0, -1.0, 0.0]), np.array([4.0, 0.5, 9.0, 1.0, 1e-3])
BOX = Bounds(LOWER, UPPER)  # one side of width 0, one very narrow
OF_EVOSAX = [f"evosax:{name}" for name in ("CMA_ES", "DifferentialEvolution", "PGPE", "Open_ES")]
every_algorithm = pytest.mark.parametrize("algorithm", [*evosearch.ALGORITHMS, *OF_EVOSAX])


def sphere(genome):
    return jnp.sum((genome - 1) ** 2)


def half_nan(genome):
    return jnp.where(genome[0] < 0, jnp.nan, sphere(genome))


def constrained(genome):
    return Score(jnp.sum(genome), jnp.maximum(0.0, 3 - genome[0]))


def small(algorithm, **settings):
    return Config(algorithm=algorithm, population=10, generations=11, **settings)


def run(algorithm, fitness=sphere, seed=0, **settings):
    return evosearch.search(jax.random.key(seed), small(algorithm, **settings), BOX, fitness)


@every_algorithm
def test_stays_in_the_box(algorithm):
    vectors = run(algorithm).info.vectors
    assert (vectors >= LOWER.astype(np.float32)).all() and (vectors <= UPPER.astype(np.float32)).all()


@every_algorithm
def test_evaluates_and_records_the_stated_number(algorithm):
    result, sizes = run(algorithm), small(algorithm).sizes
    evaluated = result.info.evaluated
    assert result.info.vectors.shape == (len(sizes), 10, 5) and result.state.generation == len(sizes)
    assert tuple(evaluated.sum(axis=1)) == sizes and sum(sizes) == small(algorithm).evaluations == 120
    again = ((result.info.vectors.astype(np.float64) - 1) ** 2).sum(-1)
    np.testing.assert_allclose(result.info.score.value[evaluated], again[evaluated], rtol=1e-5)
    np.testing.assert_array_equal(result.info.score.violation[evaluated], 0)
    assert np.isinf(result.info.score.value[~evaluated]).all() and not result.info.accepted[~evaluated].any()


@every_algorithm
def test_best_is_monotone_and_is_the_least_of_all(algorithm):
    result = run(algorithm)
    best = result.info.best_score.value
    np.testing.assert_array_equal(best, np.minimum.accumulate(result.info.score.value.min(axis=1)))
    assert result.score.value == best[-1] == result.info.score.value.min()
    where = np.unravel_index(result.info.score.value.argmin(), result.info.score.value.shape)
    np.testing.assert_array_equal(result.best, result.info.vectors[where])


@every_algorithm
def test_population_keeps_the_better_of_parent_and_trial(algorithm):
    result = run(algorithm)
    value = np.full(10, np.inf, np.float32)
    for trial, accepted in zip(result.info.score.value, result.info.accepted, strict=True):
        np.testing.assert_array_equal(accepted, trial <= value)
        value = np.where(accepted, trial, value)
    np.testing.assert_array_equal(result.state.score.value, value)


@every_algorithm
def test_same_key_same_result_and_another_key_another(algorithm):
    one, two, other = run(algorithm), run(algorithm), run(algorithm, seed=1)
    jax.tree.map(np.testing.assert_array_equal, one.info, two.info)
    assert not np.array_equal(one.info.vectors, other.info.vectors)


@every_algorithm
def test_nan_never_wins(algorithm):
    result = run(algorithm, half_nan)
    failed = result.info.vectors[..., 0] < 0
    assert failed.any() and np.isinf(result.info.score.value[failed]).all()
    assert not result.info.accepted[failed].any()
    assert np.isfinite(result.score.value) and result.best[0] >= 0


@every_algorithm
def test_feasible_beats_any_value(algorithm):
    result = run(algorithm, constrained)
    assert (result.info.score.violation > 0).any()
    assert result.score.violation == 0 and result.best[0] >= 3
    violation, value = result.info.best_score.violation, result.info.best_score.value
    assert (np.diff(violation) <= 0).all()
    assert (np.diff(value)[np.diff(violation) == 0] <= 0).all()


@every_algorithm
def test_vmap_over_seeds_equals_a_loop(algorithm):
    config = small(algorithm)
    box = Bounds(jnp.asarray(LOWER, jnp.float32), jnp.asarray(UPPER, jnp.float32))
    keys = jax.random.split(jax.random.key(5), 3)
    states = [evosearch.init(key, config, BOX) for key in keys]
    step = jax.jit(partial(evosearch.step, config=config, bounds=box, fitness=sphere))
    near = 1e-5 if algorithm in OF_EVOSAX else 0  # evosax's matrix products round differently in a batch
    for _ in range(3):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        together, _ = jax.jit(jax.vmap(step))(keys, stacked)
        states = [step(key, state)[0] for key, state in zip(keys, states, strict=True)]
        for index, state in enumerate(states):
            one = jax.tree.map(lambda leaf, i=index: leaf[i], together)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=near), one, state)


@every_algorithm
def test_one_trace_and_one_program(algorithm):
    traces = []

    def counted(target, genome):
        traces.append(1)
        return jnp.sum((genome - target) ** 2)

    config = Config(algorithm=algorithm, population=10, generations=7, at_once=3, chunk=2)
    before = evosearch.compilations()
    for target in (0.5, 2, np.float64(3), jnp.ones(()), np.float32(1)):
        box = Bounds(LOWER - target, UPPER)
        goal = np.full(5, target, np.float32) if target == 2 else jnp.full(5, target, jnp.float32)
        evosearch.search(jax.random.key(0), config, box, jax.tree_util.Partial(counted, goal))
    assert len(traces) == 1 and evosearch.compilations() == before + 1


@pytest.mark.parametrize("at_once", [1, 3, 5, 10, 99])
def test_how_many_at_once_does_not_change_what_is_evaluated(at_once):
    plain, other = run("rand1bin"), run("rand1bin", at_once=at_once)
    np.testing.assert_allclose(other.info.score.value, plain.info.score.value, rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["rand1bin", "lshade"])
@pytest.mark.parametrize("chunk", [1, 3, 5, 12])
def test_looking_in_between_does_not_change_the_result(chunk, algorithm):
    seen = []
    config = small(algorithm, chunk=chunk)
    result = evosearch.search(
        jax.random.key(0), config, BOX, sphere, progress=lambda units, text: seen.append((units, text))
    )
    jax.tree.map(np.testing.assert_array_equal, result.info, run(algorithm).info)
    jax.tree.map(np.testing.assert_array_equal, result.state[:5], run(algorithm).state[:5])
    assert sum(units for units, _ in seen) == len(config.sizes) and "best" in seen[-1][1]


def test_start_vectors_are_evaluated_first():
    start = np.array([[1.0, 0.5, 2.0, 1.0, 5e-4], [9.0, 9.0, 9.0, 9.0, 9.0]])
    result = evosearch.search(jax.random.key(0), small("rand1bin"), BOX, sphere, start=start)
    clipped = np.clip(start, LOWER, UPPER).astype(np.float32)
    np.testing.assert_array_equal(result.info.vectors[0, :2], clipped)
    assert result.info.best_score.value[0] <= float(sphere(clipped[0])) * (1 + 1e-6)


def test_differential_evolution_beats_random_search_on_a_sphere():
    box, seeds = Bounds(np.full(8, -5.0), np.full(8, 5.0)), range(5)

    def median(algorithm):
        config = Config(algorithm=algorithm, population=20, generations=100, at_once=20)
        return np.median([evosearch.search(jax.random.key(s), config, box, sphere).score.value for s in seeds])

    random = median("random")
    for algorithm in (name for name in evosearch.ALGORITHMS if name != "random"):
        assert median(algorithm) < random / 5
