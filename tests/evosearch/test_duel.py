"""Paired races: a trial that is as good as its parent is hardly ever given up, a worse one soon."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, duel

RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
CHUNKS = 20


def chunks_until_given_up(differences, confidence):
    """For every row of differences [R, N]: after how many chunks it is given up, N where it is not."""
    quantiles = jnp.asarray(duel.quantiles(CHUNKS, confidence))

    def one(row):
        gone = jax.vmap(lambda done: duel.given_up(row, jnp.zeros(CHUNKS), quantiles, done))(jnp.arange(1, CHUNKS))
        return jnp.where(gone.any(), jnp.argmax(gone) + 1, CHUNKS)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(differences, jnp.float32)))


@pytest.mark.parametrize("confidence", [0.9, 0.99])
@pytest.mark.parametrize("draw", [stats.norm, stats.laplace, stats.uniform(-0.5), stats.t(5)])
def test_error_rate_is_below_what_is_stated(confidence, draw):
    """Simulated: differences whose total over all chunks is exactly 0, the hardest case of a trial that would stay.

    A chunk is 25 examples.
    """
    rows = draw.rvs(size=(20_000, CHUNKS, 25), random_state=np.random.default_rng(0)).sum(-1)
    rows -= rows.mean(axis=1, keepdims=True)
    lost = (chunks_until_given_up(rows, confidence) < CHUNKS).mean()
    assert lost <= (1 - confidence) * 1.1


def test_the_worse_the_sooner():
    rng = np.random.default_rng(1)
    needed = [chunks_until_given_up(rng.normal(size=(500, CHUNKS)) + shift, 0.99).mean() for shift in (0, 1, 2, 8)]
    assert needed == sorted(needed, reverse=True) and needed[0] > 0.97 * CHUNKS and needed[-1] < 6


def test_quantiles_are_students_split_over_the_looks():
    found = duel.quantiles(CHUNKS, 0.95)
    assert np.isinf(found[: duel.FIRST_LOOK - 1]).all() and np.isinf(found[-1])
    np.testing.assert_allclose(found[9], stats.t.ppf(1 - 0.05 / (CHUNKS - duel.FIRST_LOOK), 9), rtol=1e-6)


def budget_fitness(problem, loss):
    masked = evosearch.masked_loss(*problem, loss, chunk=6)
    return evosearch.budget_loss(masked, 70, RATIOS), evosearch.genome_box(masked.sizes, RATIOS)


@pytest.mark.parametrize("at_once", [1, 4])
def test_what_stays_was_evaluated_whole_and_what_goes_expects_to_be_worse(make, loss, at_once):
    fitness, box = budget_fitness(make(1), loss)
    config = Config(population=12, generations=15, at_once=at_once, race="paired", confidence=0.9)
    result = evosearch.search(jax.random.key(0), config, box, fitness)
    info = result.info
    assert (info.work[info.accepted] == 1).all() and info.exact[info.accepted].all()
    assert info.work[1:].mean() < 0.95 and not info.exact.all()
    value = np.full(12, np.inf)
    for trial, accepted, exact in zip(info.score.value, info.accepted, info.exact, strict=True):
        assert (trial[~exact] > value[~exact]).all()
        value = np.where(accepted, trial, value)
    np.testing.assert_allclose(result.score.value, fitness(jnp.asarray(result.best)).value, rtol=1e-5)
    means = np.asarray(result.state.losses.sum(1) / 70)
    np.testing.assert_allclose(means, result.state.score.value, rtol=1e-5)


def test_a_tolerance_is_not_for_a_duel(problem, loss, metric):
    fitness = evosearch.tolerance(evosearch.masked_loss(*problem, loss, metric), 1.0, 0.3)
    with pytest.raises(BadInput, match="race='exact'"):
        evosearch.search(jax.random.key(0), Config(race="paired"), RATIOS, fitness)
    with pytest.raises(BadInput, match="confidence"):
        Config(confidence=1.0)
