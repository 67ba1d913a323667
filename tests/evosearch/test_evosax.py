"""evosax's algorithms as rows: against evosax's own loop, and what they are told."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evosax import algorithms
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, Score, init
from jax_prune.evosearch.evosax_adapter import told
from jax_prune.evosearch.evosax_strategies import names
from jax_prune.evosearch.generation import LEARN
from jax_prune.evosearch.vectors import reflect

BOX = Bounds(np.array([-2.0, 1.0, -4.0]), np.array([3.0, 9.0, 0.5]))
UNIT = Bounds(jnp.zeros(3), jnp.ones(3))
numbers = st.sampled_from([0.0, 1e-3, 2.5, -7.0, 3e8, float("inf")])


def sphere(genome):
    return jnp.sum((genome - jnp.array([2.9, 1.2, 0.0])) ** 2)


def bare(name, key, config):
    """evosax's own ask and tell, with vectors of the unit box reflected at its walls: vectors [T, P, G]."""
    _, step_key = jax.random.split(key)
    first = init(jax.random.split(key)[0], config, BOX).population
    lower, width = jnp.asarray(BOX.lower, jnp.float32), jnp.asarray(BOX.upper - BOX.lower, jnp.float32)
    unit, scores = (first - lower) / width, jax.vmap(sphere)(first)
    strategy = algorithms.algorithms[name](population_size=config.population, solution=jnp.zeros(3))
    params, begin = strategy.default_params, jax.random.fold_in(jax.random.fold_in(step_key, 0), LEARN)
    if name == "CMA_ES":
        params = params.replace(std_init=jnp.sqrt(unit.var(axis=0).mean()))
        state = strategy.init(begin, unit[jnp.argmin(scores)], params)
    else:
        state = strategy.init(begin, unit, scores, params)
    seen = [first]
    for generation in range(1, config.generations + 1):
        key = jax.random.fold_in(step_key, generation)
        asked, state = strategy.ask(key, state, params)
        asked = reflect(asked, UNIT)
        seen.append(lower + asked * width)
        state, _ = strategy.tell(jax.random.fold_in(key, LEARN), asked, jax.vmap(sphere)(seen[-1]), state, params)
    return np.asarray(jnp.stack(seen))


@pytest.mark.parametrize("name", ["CMA_ES", "DifferentialEvolution"])
def test_a_row_is_evosaxs_own_loop_with_vectors_repaired_before_they_are_evaluated_and_told(name):
    config = Config(algorithm=f"evosax:{name}", population=8, generations=6)
    found = evosearch.search(jax.random.key(3), config, BOX, sphere).info.vectors
    expected = bare(name, jax.random.key(3), config)
    assert (np.diff(found.reshape(-1, 3), axis=0) != 0).any()
    np.testing.assert_allclose(found, expected, atol=2e-3)


@given(pairs=st.lists(st.tuples(st.sampled_from([0.0, 1e-3, 0.5, 40.0]), numbers), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_what_is_told_has_the_order_of_the_scores(pairs):
    """Feasible first, then value; among infeasible ones the number for all generations knows violations alone."""
    pairs = [pair if np.isfinite(pair[1]) else (np.inf, np.inf) for pair in pairs]
    violation, value = (jnp.asarray(part, jnp.float32) for part in zip(*pairs, strict=True))
    score = Score(value, violation)
    ranks, overall = np.asarray(told(score, by_rank=True)), np.asarray(told(score, by_rank=False))
    assert np.isfinite(ranks).all() and np.isfinite(overall).all() and np.isfinite(overall**2).all()
    for one, left in enumerate(pairs):
        for two, right in enumerate(pairs):
            assert (ranks[one] < ranks[two]) == (left < right)
            plain = [(pair[0], pair[1] if pair[0] == 0 else 0) for pair in (left, right)]
            assert (overall[one] < overall[two]) == (plain[0] < plain[1])
    feasible = np.asarray(violation) == 0
    np.testing.assert_array_equal(overall[feasible], np.asarray(value)[feasible])


@pytest.mark.parametrize(
    ("name", "population", "message"),
    [
        ("PGPE", 25, r"population 25, 3 entries: evosax's PGPE says: .*even; give 22 or 24 or 26 or 28"),
        ("Open_ES", 9, "must be even; give 6 or 8 or 10 or 12"),
        ("ARS", 9, "must be even; give"),
        ("ESMC", 9, "it asks for 8 vectors; give 6 or 8 or 10 or 12"),
        ("SV_CMA_ES", 9, "it asks for 8 vectors; give"),
    ],
)
def test_a_population_that_does_not_fit_is_refused_with_some_that_do(name, population, message):
    config = Config(algorithm=f"evosax:{name}", population=population, generations=1)
    with pytest.raises(BadInput, match=message) as caught:
        evosearch.search(jax.random.key(0), config, BOX, sphere)
    assert "\n" not in str(caught.value)


def test_names_are_evosaxs_and_those_of_its_classes():
    assert set(algorithms.algorithms) < set(names()) and "LearnedES" in names()


def test_without_evosax_all_but_its_rows_works():
    program = (
        "import sys; sys.modules['evosax'] = None\n"
        "from jax_prune import errors, evosearch\n"
        "evosearch.Config(algorithm='lshade')\n"
        "try:\n    evosearch.Config(algorithm='evosax:PSO')\n"
        "except errors.BadInput as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "need evosax" in done.stdout and "pip install evosax" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(algorithms.algorithms))
def test_every_algorithm_improves_on_a_sphere_and_compiles_once(name):
    config = Config(algorithm=f"evosax:{name}", population=20, generations=59, at_once=20)
    before = evosearch.compilations()
    results = [evosearch.search(jax.random.key(seed), config, BOX, sphere) for seed in range(2)]
    assert evosearch.compilations() == before + 1
    for result in results:
        assert np.isfinite(result.info.vectors).all()
        assert result.score.value < result.info.best_score.value[0]
        assert result.info.evaluated.sum() == config.evaluations
