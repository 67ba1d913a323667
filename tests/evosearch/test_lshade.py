"""L-SHADE: how its population shrinks, who takes part, and what it remembers, against the paper's definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, Score, archive, lshade
from jax_prune.evosearch.proposal import Outcome, Trials, current_to_pbest
from jax_prune.evosearch.score import order
from jax_prune.evosearch.vectors import distinct

G = 3
BOX = Bounds(np.full(G, -5.0), np.full(G, 5.0))


def shrinking(population, generations, **settings_):
    return Config(algorithm="lshade", population=population, generations=generations, **settings_)


def sphere(genome):
    return jnp.sum((genome - 1) ** 2)


def waves(genome):
    return sphere(genome) + 3 * jnp.sum(jnp.cos(2 * genome))


@given(population=st.integers(4, 60), generations=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_the_population_shrinks_linearly_and_evaluates_exactly_as_many_as_others(population, generations):
    config = shrinking(population, generations)
    sizes = config.sizes
    assert sum(sizes) == config.evaluations and sizes[0] == population and min(sizes) >= 1
    assert all(left >= right for left, right in zip(sizes, sizes[1:], strict=False))
    used = np.cumsum(sizes)
    for number, before in zip(sizes[2:-1], used[1:-2], strict=True):
        assert abs(number - (population + (4 - population) * before / config.evaluations)) <= 0.5
        assert number >= 4


@pytest.mark.parametrize("at_once", [1, 4, 30])
def test_only_the_best_of_the_population_are_parents(at_once):
    config = shrinking(12, 15, at_once=at_once)
    result = evosearch.search(jax.random.key(0), config, BOX, sphere)
    value = np.full(12, np.inf, np.float32)
    for generation, (size, trial) in enumerate(zip(config.sizes, result.info.score.value, strict=True)):
        evaluated = result.info.evaluated[generation]
        assert evaluated.sum() == size
        if generation:
            assert set(np.flatnonzero(evaluated)) == set(np.argsort(value, kind="stable")[:size])
        value = np.where(evaluated & (trial <= value), trial, value)
    np.testing.assert_array_equal(result.state.score.value, value)


def test_who_dropped_out_never_comes_back():
    evaluated = evosearch.search(jax.random.key(1), shrinking(14, 12), BOX, sphere).info.evaluated
    assert (np.diff(evaluated.astype(int), axis=0) <= 0).all() and not evaluated[-1].all()


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("population", "repair", "at_once", "chunk"),
    [(301, "resample", 16, 7), pytest.param(256, "clip", 1, 20, marks=pytest.mark.slow)],
)
def test_leaving_slots_out_changes_nothing(population, repair, at_once, chunk):
    """``step`` by hand always has all slots."""
    config = shrinking(population, 6, repair=repair, at_once=at_once, chunk=chunk)
    numbers = {lshade.slots_needed(config, generation) for generation in range(0, len(config.sizes), chunk)}
    assert len(numbers) > 1
    before, rugged = evosearch.compilations(), jax.tree_util.Partial(waves)
    found = evosearch.search(jax.random.key(1), config, BOX, rugged)
    assert evosearch.compilations() == before + len(numbers)
    init_key, key = jax.random.split(jax.random.key(1))
    state, step = evosearch.init(init_key, config, BOX), jax.jit(evosearch.step, static_argnames="config")
    box = Bounds(*(jnp.asarray(side, jnp.float32) for side in BOX))
    for number in range(-(-len(config.sizes) // chunk) * chunk):  # the last look goes beyond the end
        state, info = step(jax.random.fold_in(key, state.generation), state, config=config, bounds=box, fitness=rugged)
        if number >= len(config.sizes):
            continue
        of_search = jax.tree.map(lambda leaf, at=number: leaf[at], found.info)
        np.testing.assert_array_equal(info.vectors[info.evaluated], of_search.vectors[info.evaluated])
        jax.tree.map(np.testing.assert_array_equal, info[1:], of_search[1:])
        assert of_search.evaluated.sum() == config.sizes[number]
    held = int(state.memory.archive.filled)
    both = [end._replace(memory=end.memory._replace(archive=end.memory.archive.vectors[:held]))
            for end in (found.state, state)]  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.mark.optimized
def test_in_a_race_too_leaving_slots_out_changes_nothing(problem, loss):
    """Lanes of a body may round differently: candidates keep theirs."""
    ratios = Bounds(np.zeros(3), np.full(3, 0.9))
    masked = evosearch.masked_loss(*problem, loss, None, chunk=9)
    fitness, box = evosearch.budget_loss(masked, 70, ratios), evosearch.genome_box(masked.sizes, ratios)
    raced, whole = (
        evosearch.search(jax.random.key(0), shrinking(256, 4, at_once=8, race=race), box, fitness)
        for race in ("exact", "none")
    )
    assert lshade.slots_needed(shrinking(256, 4), len(raced.info.vectors) - 1) < 256
    np.testing.assert_array_equal(raced.info.vectors, whole.info.vectors)
    jax.tree.map(np.testing.assert_array_equal, raced.state.population, whole.state.population)
    assert (raced.info.work.sum(1) < whole.info.work.sum(1)).any()


@pytest.mark.optimized
def test_with_slots_left_out_a_stopped_search_ends_with_the_same_bits(tmp_path):
    config = shrinking(256, 4, at_once=256)
    fitness = jax.tree_util.Partial(waves)
    whole = evosearch.search(jax.random.key(3), config, BOX, fitness)
    looks = []

    def stop(generations, text):
        looks.append(generations)
        if len(looks) == 5:
            raise KeyboardInterrupt

    where = {"checkpoint": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        evosearch.search(jax.random.key(3), config, BOX, fitness, progress=stop, **where)
    resumed = evosearch.search(jax.random.key(3), config, BOX, fitness, **where)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_steps_beyond_the_end_change_nothing():
    config = shrinking(6, 3)
    fitness = jax.tree_util.Partial(sphere)
    box = Bounds(*(jnp.asarray(side, jnp.float32) for side in BOX))
    end = evosearch.search(jax.random.key(0), config, BOX, sphere).state
    after, info = evosearch.step(jax.random.key(9), end, config, box, fitness)
    jax.tree.map(np.testing.assert_array_equal, after[:5], end[:5])
    assert not info.evaluated.any() and int(after.generation) == len(config.sizes)


@given(active=st.integers(4, 9), archived=st.integers(0, 6), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_partners_are_among_the_best_and_the_archive_alone(active, archived, seed):
    """Vectors are unit vectors and F is 1, so that a mutant shows what it was made of."""
    slots, room = 9, 6
    rng = np.random.default_rng(seed)
    score = Score(jnp.asarray(rng.permutation(slots), jnp.float32), jnp.zeros(slots))
    vectors = np.eye(slots + room, dtype=np.float32)
    held = archive.Archive(jnp.asarray(vectors[slots:]), jnp.int32(archived))
    draws = jnp.asarray(rng.uniform(size=(3, slots)), jnp.float32)
    population = jnp.asarray(vectors[:slots])
    mutants = np.asarray(
        current_to_pbest(population, score, held, jnp.ones((slots, 1)), 0.11, draws, jnp.int32(active))
    )
    best = np.asarray(order(score))
    for slot in best[:active]:
        left = mutants[slot]  # x + (p - x) + (b - c) = p + b - c
        assert left.sum() == pytest.approx(1)
        third = set(np.flatnonzero(left < 0))
        leader_and_second = set(np.flatnonzero(left > 0))
        allowed = set(best[:active]) | set(range(slots, slots + archived))
        assert third <= allowed - {slot} and leader_and_second <= set(best[:active])
        assert leader_and_second - set(best[:2]) <= set(best[:active]) - {slot}


@given(active=st.integers(4, 12), beyond=st.integers(0, 5), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_distinct_among_the_first_is_distinct_of_a_smaller_population(active, beyond, seed):
    draws = jax.random.uniform(jax.random.key(seed), (2, 12))
    some = distinct(draws, beyond, jnp.int32(active))[:, :active]
    np.testing.assert_array_equal(some, distinct(draws[:, :active], beyond))


def told(gains, scale, crossover):
    count = len(gains)
    parents = jnp.arange(count * G, dtype=jnp.float32).reshape(count, G)
    gains = jnp.asarray(gains, jnp.float32)
    trials = Trials(parents + 0.5, jnp.asarray(scale, jnp.float32), jnp.asarray(crossover, jnp.float32))
    return Outcome(trials, parents, gains > 0, gains, Score(gains, gains), BOX)


@given(gains=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=8, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_memories_are_weighted_lehmer_means_of_what_succeeded(gains, seed):
    scale, share = np.random.default_rng(seed).uniform(0.1, 1, (2, 8)).astype(np.float32)
    config = shrinking(8, 5)
    before = lshade.lshade.start(config, G)
    after = lshade.lshade.learn(jax.random.key(0), before, told(gains, scale, share), config)
    expected = [np.full(6, 0.5), np.full(6, 0.5)]
    if any(gains):
        for memory, values in zip(expected, (scale, share), strict=True):
            memory[0] = np.average(values**2, weights=gains) / np.average(values, weights=gains)
    np.testing.assert_allclose(after.scale, expected[0], rtol=1e-5)
    np.testing.assert_allclose(after.crossover, expected[1], rtol=1e-5)
    assert int(after.place) == int(any(gains)) and int(after.generation) == 1
    assert int(after.archive.filled) == sum(value > 0 for value in gains)


def test_a_crossover_memory_that_ended_draws_zero_for_ever():
    config = shrinking(400, 5)
    memory = lshade.lshade.start(config, G)
    for _ in range(7):  # six memories, and the first once more
        memory = lshade.lshade.learn(jax.random.key(0), memory, told([1.0], [0.5], [0.0]), config)
    assert (memory.crossover == lshade.TERMINAL).all()
    memory = lshade.lshade.learn(jax.random.key(0), memory, told([1.0], [0.5], [0.9]), config)
    assert (memory.crossover == lshade.TERMINAL).all()
    vectors = jax.random.uniform(jax.random.key(1), (400, G))
    score = Score(vectors.sum(1), jnp.zeros(400))
    trials = lshade.lshade.propose(jax.random.key(0), vectors, score, memory, config, Bounds(jnp.zeros(G), jnp.ones(G)))
    assert (trials.crossover == 0).all()


def test_the_archive_shrinks_with_the_population():
    config = shrinking(10, 30)
    memory, learn = lshade.lshade.start(config, G), jax.jit(lshade.lshade.learn, static_argnames="config")
    assert memory.archive.vectors.shape == (26, G)
    held = 0
    for number, size in enumerate(lshade.populations(config)[1:]):
        outcome = told(np.arange(10) < size, np.full(10, 0.5), np.full(10, 0.5))
        memory = learn(jax.random.key(number), memory, outcome, config=config)
        held = min(held + size, round(2.6 * size))
        assert int(memory.archive.filled) == held
