"""What jDE and SHADE learn, their archive and the repairs, against definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, Score, adaptive, archive
from jax_prune.evosearch.proposal import Outcome, Trials, crossed, leaders
from jax_prune.evosearch.score import gain, order
from jax_prune.evosearch.vectors import REPAIRS, distinct

P, G = 6, 3
PARENTS = jnp.arange(P * G, dtype=jnp.float32).reshape(P, G)


def outcome(gains, scale, crossover):
    trials = Trials(PARENTS + 0.5, jnp.asarray(scale, jnp.float32), jnp.asarray(crossover, jnp.float32))
    gains = jnp.asarray(gains, jnp.float32)
    score = Score(jnp.zeros(P), jnp.zeros(P))
    return Outcome(trials, PARENTS, gains > 0, gains, score, Bounds(jnp.zeros(G), jnp.full(G, 99.0)))


@given(rounds=st.lists(st.lists(st.booleans(), min_size=P, max_size=P), max_size=6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_an_archive_holds_what_was_put_in_and_never_forgets_the_newest(rounds, seed):
    held, put, newest = archive.empty(P, G), set(), set()
    for number, chosen in enumerate(rounds):
        vectors = PARENTS + 100 * (number + 1)
        held = archive.insert(jax.random.fold_in(jax.random.key(seed), number), held, vectors, jnp.asarray(chosen))
        newest = {tuple(map(float, row)) for row, taken in zip(vectors, chosen, strict=True) if taken}
        put |= newest
        inside = {tuple(map(float, row)) for row in held.vectors[: int(held.filled)]}
        assert int(held.filled) == min(P, len(put)) == len(inside)
        assert newest <= inside <= put


def test_a_full_archive_gives_up_random_places():
    full = archive.insert(jax.random.key(0), archive.empty(P, G), PARENTS, jnp.ones(P, bool))
    one, new = jnp.arange(P) == 2, PARENTS + 100
    lost = set()
    for seed in range(60):
        after = archive.insert(jax.random.key(seed), full, new, one).vectors
        (place,) = np.flatnonzero((after != PARENTS).any(1))
        np.testing.assert_array_equal(after[place], new[2])
        lost.add(int(place))
    assert lost == set(range(P))


@given(
    gains=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=P, max_size=P),
    place=st.integers(0, P - 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_shade_remembers_weighted_means_of_what_succeeded(gains, place, seed):
    rng = np.random.default_rng(seed)
    scale, share = rng.uniform(0.1, 1, (2, P)).astype(np.float32)
    before = adaptive.shade.start(Config(population=P), G)._replace(place=jnp.int32(place))
    told = outcome(gains, scale, share)
    after = adaptive.shade.learn(jax.random.key(0), before, told, Config(population=P))
    expected_scale, expected_share = np.full(P, 0.5), np.full(P, 0.5)
    if any(gains):
        weights = np.asarray(gains) / sum(gains)
        expected_scale[place] = (weights * scale**2).sum() / (weights * scale).sum()
        expected_share[place] = (weights * share).sum()
    np.testing.assert_allclose(after.scale, expected_scale, rtol=1e-5)
    np.testing.assert_allclose(after.crossover, expected_share, rtol=1e-5)
    assert int(after.place) == ((place + 1) % P if any(gains) else place)
    assert int(after.archive.filled) == sum(value > 0 for value in gains)


def test_jde_keeps_the_settings_of_accepted_trials_alone():
    before = adaptive.jde.start(Config(population=P), G)
    told = outcome([1, 0, 0, 2, 0, 0], np.full(P, 0.3), np.full(P, 0.2))
    after = adaptive.jde.learn(jax.random.key(0), before, told, Config(population=P))
    np.testing.assert_allclose(after.scale, np.where([1, 0, 0, 1, 0, 0], 0.3, 0.5), rtol=1e-6)
    np.testing.assert_allclose(after.crossover, np.where([1, 0, 0, 1, 0, 0], 0.2, 0.9), rtol=1e-6)


def propose(algorithm, population, memory, seed=0):
    vectors = jax.random.uniform(jax.random.key(1), (population, G))
    score = Score(vectors.sum(1), jnp.zeros(population))
    config, box = Config(population=population), Bounds(jnp.zeros(G), jnp.ones(G))
    return algorithm.propose(jax.random.key(seed), vectors, score, memory, config, box)


@pytest.mark.parametrize("centre", [0.02, 0.5, 0.95])
def test_shade_draws_f_from_the_positive_part_of_a_cauchy_distribution(centre):
    memory = adaptive.shade.start(Config(population=4000), G)
    memory = memory._replace(scale=jnp.full(4000, centre, jnp.float32))
    scale = np.asarray(propose(adaptive.shade, 4000, memory).scale)
    assert scale.min() > 0 and scale.max() <= 1
    cauchy = stats.cauchy(centre, 0.1)
    below = (cauchy.cdf(np.array([0.1, 0.3, 0.5, 0.7, 0.9])) - cauchy.cdf(0)) / cauchy.sf(0)
    found = [(scale <= at).mean() for at in (0.1, 0.3, 0.5, 0.7, 0.9)]
    np.testing.assert_allclose(found, below, atol=0.03)


def test_shade_draws_cr_around_its_memory():
    memory = adaptive.shade.start(Config(population=4000), G)._replace(crossover=jnp.full(4000, 0.4, jnp.float32))
    share = np.asarray(propose(adaptive.shade, 4000, memory).crossover)
    assert abs(share.mean() - 0.4) < 0.01 and abs(share.std() - 0.1) < 0.01
    memory = memory._replace(crossover=jnp.zeros(4000, jnp.float32))
    assert propose(adaptive.shade, 4000, memory).crossover.min() == 0


def test_jde_draws_its_settings_anew_one_time_in_ten():
    memory = adaptive.jde.start(Config(population=4000), G)
    trials = propose(adaptive.jde, 4000, memory)
    for settings_, kept in ((trials.scale, 0.5), (trials.crossover, 0.9)):
        new = np.asarray(settings_)[np.asarray(settings_) != np.float32(kept)]
        assert 0.07 < len(new) / 4000 < 0.13
    assert trials.scale.min() >= 0.1 and trials.scale.max() <= 1


@pytest.mark.parametrize("repair", list(REPAIRS))
@pytest.mark.parametrize("algorithm", ["rand1bin", "currenttopbest1bin", "jde", "shade", "lshade", "evosax:CMA_ES"])
def test_every_repair_keeps_the_box(algorithm, repair):
    box = Bounds(np.array([-1.0, 2.0, 0.0]), np.array([0.5, 2.0, 1e-3]))
    config = Config(algorithm=algorithm, population=8, generations=8, repair=repair)
    vectors = evosearch.search(jax.random.key(0), config, box, jnp.sum).info.vectors
    assert (vectors >= box.lower.astype(np.float32)).all() and (vectors <= box.upper.astype(np.float32)).all()


@pytest.mark.parametrize("repair", list(REPAIRS))
def test_repairs_leave_alone_what_is_inside(repair):
    box = Bounds(jnp.zeros(4), jnp.ones(4))
    mixed = jnp.asarray([[0.3, 1.25, -0.5, 0.7], [7.0, 0.25, 0.5, -9.0]])
    repaired = np.asarray(REPAIRS[repair](jax.random.key(0), mixed, box))
    inside = np.asarray((mixed >= 0) & (mixed <= 1))
    np.testing.assert_allclose(repaired[inside], np.asarray(mixed)[inside], rtol=1e-6)
    expected = {"clip": [1, 0, 1, 0], "reflect": [0.75, 0.5, 1, 1]}.get(repair)
    if expected:
        np.testing.assert_allclose(repaired[~inside], expected, atol=1e-5)
    else:
        assert len(np.unique(repaired[~inside])) == 4


def test_an_unknown_repair_is_refused():
    with pytest.raises(evosearch.config.BadInput, match="known are reflect, clip, resample"):
        Config(repair="wrap")


@given(beyond=st.integers(0, 7), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_the_last_partner_may_be_of_the_archive(beyond, seed):
    partners = np.asarray(distinct(jax.random.uniform(jax.random.key(seed), (2, 500)), beyond=beyond))
    together = np.vstack([np.arange(500), partners])
    assert all(len(set(column)) == 3 for column in together.T)
    assert partners[0].max() < 500 and partners[1].max() < 500 + beyond


def test_archived_partners_are_as_likely_as_others():
    draws = jax.random.uniform(jax.random.key(0), (2, 2000))
    partners = np.asarray(distinct(draws, beyond=2000))[1]
    assert 0.45 < (partners >= 2000).mean() < 0.55


def test_leaders_are_of_the_best_share():
    score = Score(jnp.asarray([5.0, 1.0, 3.0, 2.0, 4.0, 9.0]), jnp.asarray([0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    draws = jnp.linspace(0, 0.999, 6)
    assert set(np.asarray(leaders(order(score), draws, 0.5)).tolist()) == {1, 3, 2}
    assert set(np.asarray(leaders(order(score), draws, 0.01)).tolist()) == {1, 3}


def test_gain_is_in_violation_first():
    before = Score(jnp.asarray([3.0, 3.0, 3.0, jnp.inf, 1.0]), jnp.asarray([0.0, 2.0, 0.0, jnp.inf, 0.0]))
    after = Score(jnp.asarray([1.0, 9.0, 4.0, 5.0, jnp.inf]), jnp.asarray([0.0, 0.5, 0.0, 0.0, jnp.inf]))
    np.testing.assert_allclose(gain(before, after), [2.0, 1.5, 0.0, 1.0, 0.0])


def test_a_trial_takes_at_least_one_entry_from_its_mutant():
    taken = np.asarray(
        crossed(jnp.zeros(50), jax.random.uniform(jax.random.key(0), (G, 50)), jnp.linspace(0, 0.999, 50))
    )
    assert (taken.sum(1) == 1).all() and set(taken.argmax(1)) == {0, 1, 2}
