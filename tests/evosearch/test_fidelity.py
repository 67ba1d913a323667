"""Successive fidelity: every generation's scores are those of its share of the data, and the last ones of all of it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, examples, fidelity, history
from jax_prune.types import Batch

RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
SHARES = (0.25, 1.0)
ROWS, GROWS = 8, 3  # of a search below, and where its share grows
SETTLED = [name for name in evosearch.ALGORITHMS if name != "lshade"]


def make_fitness(problem, loss, metric=None, form="budget", chunk=6):
    masked = evosearch.masked_loss(*problem, loss, metric, chunk=chunk)
    if form == "budget":
        return evosearch.budget_loss(masked, 70, RATIOS)
    return evosearch.tolerance(masked, 1.0, 0.3, RATIOS)


def make_config(race="exact", algorithm="shade", **changed):
    settings = {"population": 8, "generations": 6, "fidelity": SHARES, "race": race, "at_once": 4, "confidence": 0.9}
    return Config(algorithm, **(settings | changed))


def search(fitness, config, seed=0, **how):
    return evosearch.search(jax.random.key(seed), config, fitness.box, fitness, **how)


@pytest.fixture(scope="module")
def found(problem, loss):
    """The fitness, and its search by a kind of race: once a kind."""
    fitness = make_fitness(problem, loss)

    def run(race):
        before = evosearch.compilations()
        result = search(fitness, make_config(race))
        assert evosearch.compilations() == before + len(SHARES)
        return result

    return fitness, functools.cache(run)


score = jax.jit(lambda fitness, genome: fitness(genome).value)


def judged_by(seed, config, fitness, row):
    """The examples that a row was judged by, in the order of the shuffle."""
    init_key, _ = jax.random.split(jax.random.key(seed))
    part = examples.at(config, examples.ordered(init_key, config, fitness), row).masked
    real = np.asarray(part.weights).ravel() > 0
    return Batch(*(np.asarray(leaf).reshape(-1, *leaf.shape[2:])[real] for leaf in part.chunks.batch[:2]))


@given(st.integers(1, 8), st.integers(0, 60))
def test_generations_are_split_evenly_and_each_share_takes_a_row_more(shares, more):
    generations = shares + more
    starts = fidelity.starts(shares, generations)
    ends = (*starts[1:], generations + shares - 1)
    trials = [end - start - (start > 0) for start, end in zip(starts, ends, strict=True)]
    assert len(starts) == shares and starts[0] == 0 and sum(trials) == generations
    assert max(trials) - min(trials) <= 1 and min(trials) >= 1


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5, unique=True), st.integers(1, 50))
def test_shares_take_chunks_rounded_up_or_are_refused(hundredths, count):
    shares = tuple(entry / 400 for entry in sorted({*hundredths, 400}))
    wanted = [-(-round(share * 400) * count // 400) for share in shares]
    if len(set(wanted)) < len(wanted):
        with pytest.raises(BadInput, match=f"of {count} chunks of the data"):
            fidelity.chunks(shares, count)
    else:
        assert list(fidelity.chunks(shares, count)) == wanted


def check_against_oracle(info, fitness, problem, oracle, config):
    kept = history.seen(info, fitness)["kept"]
    for start, end in ((0, GROWS), (GROWS, ROWS)):
        part = problem._replace(batch=judged_by(0, config, fitness, start))
        assert len(part.batch.x) == (70 if start else 18)  # 3 chunks of 6; the last of all 12 has 4
        means = np.array([oracle(part, counts)[0] for counts in kept[start:end].reshape(-1, 3)]).reshape(-1, 8)
        exact = info.exact[start:end]
        np.testing.assert_allclose(info.score.value[start:end][exact], means[exact], rtol=2e-4)
        assert exact.any(axis=1).all()


@pytest.mark.parametrize("race", ["exact", "paired", "none"])
def test_scores_are_the_oracles_on_the_share_of_their_generation(found, problem, oracle, race):
    fitness, of = found
    info, config = of(race).info, make_config(race)
    assert config.starts == (0, GROWS) and len(info.vectors) == len(config.sizes) == ROWS
    assert info.evaluated.sum() == sum(config.sizes) == config.evaluations == 64
    np.testing.assert_array_equal(info.share, [3 / 12] * GROWS + [1] * (ROWS - GROWS))
    check_against_oracle(info, fitness, problem, oracle, config)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("algorithm", SETTLED)
def test_every_algorithm_that_forgets_scores(problem, loss, oracle, algorithm, at_once):
    fitness, config = make_fitness(problem, loss), make_config("exact", algorithm, at_once=at_once)
    check_against_oracle(search(fitness, config).info, fitness, problem, oracle, config)


@pytest.mark.parametrize("race", ["exact", "paired", "none"])
def test_population_and_best_are_those_of_the_last_share(found, race):
    fitness, of = found
    result, population = of(race), np.zeros((8, 3), np.float32)
    info, value = result.info, np.zeros(8)
    for row in range(ROWS):
        if row in (0, GROWS):  # the same vectors again, each evaluated to its end
            assert row == 0 or (info.vectors[row] == population).all()
            np.testing.assert_array_equal(info.work[row], info.share[row])
            value, best = np.full(8, np.inf), np.inf
        wins = info.exact[row] & (info.score.value[row] <= value)
        np.testing.assert_array_equal(info.accepted[row], wins)
        value = np.where(wins, info.score.value[row], value)
        population = np.where(wins[:, None], info.vectors[row], population)
        best = min(best, value.min())
        assert info.best_score.value[row] == best
    np.testing.assert_array_equal(result.state.population, population)
    for vector, value in ((result.best, result.score.value), (population[5], result.state.score.value[5])):
        np.testing.assert_allclose(value, score(fitness, vector), rtol=1e-5)


def check_same_populations(raced, whole):
    for name in ("population", "score", "best", "best_score", "memory"):
        jax.tree.map(np.testing.assert_array_equal, getattr(raced.state, name), getattr(whole.state, name))
    np.testing.assert_array_equal(raced.info.vectors, whole.info.vectors)
    assert raced.info.work.sum() < whole.info.work.sum()


def test_exact_racing_leaves_populations_as_they_are(found):
    check_same_populations(found[1]("exact"), found[1]("none"))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 8])
def test_exact_racing_in_the_tolerance_form(make, loss, metric, at_once):
    fitness = make_fitness(make(1), loss, metric, "tolerance")
    check_same_populations(*(search(fitness, make_config(race, at_once=at_once)) for race in ("exact", "none")))


def test_work_is_told_over_what_one_scoring_of_each_population_takes(found):
    expected = (GROWS * 3 / 12 + ROWS - GROWS) / (ROWS - 1)
    whole, raced = found[1]("none").info, found[1]("exact").info
    assert history.share_of_work(whole) == pytest.approx(expected)
    assert history.share_of_work(raced) < history.share_of_work(raced, early=False) == pytest.approx(expected)
    assert history.share_of_work(whole._replace(share=np.ones(ROWS), work=np.ones((ROWS, 8)))) == 1


def test_equal_keys_equal_results_and_a_program_for_each_share(found, make, loss):
    config = make_config()
    one, before = found[1]("exact"), evosearch.compilations()
    again = search(make_fitness(make(0), loss), config)
    jax.tree.map(np.testing.assert_array_equal, (again.info, again.state), (one.info, one.state))
    other = search(make_fitness(make(1), loss), config, seed=1)
    assert not np.array_equal(other.info.vectors, one.info.vectors)
    assert evosearch.compilations() == before


@pytest.mark.parametrize("race", ["exact", "paired"])
def test_stopped_at_every_look_it_ends_with_the_same_bits(tmp_path, found, race):
    fitness, whole, compiled, looks = found[0], found[1](race), evosearch.compilations(), 0

    def stop(generations, text):
        nonlocal looks
        looks += 1
        if looks == 2:  # the first one tells what was restored
            raise InterruptedError

    for _ in range(ROWS + 1):
        looks = 0
        try:
            resumed = search(fitness, make_config(race), progress=stop, checkpoint=tmp_path, checkpoint_seconds=0)
            break
        except InterruptedError:
            continue
    jax.tree.map(np.testing.assert_array_equal, (resumed.info, resumed.state), (whole.info, whole.state))
    assert evosearch.compilations() == compiled


def test_the_first_layers_products_go_with_their_chunks(found):
    fitness, part = found[0], found[0].shortened(3)
    cached = evosearch.budget_loss(fitness.masked.cached(RATIOS), 70, RATIOS)
    assert cached.masked.first_layer is not None
    for genome in (np.zeros(3, np.float32), np.log(np.array([0.3, 0.05, 0.9], np.float32))):
        np.testing.assert_allclose(score(cached.shortened(3), genome), score(part, genome), rtol=1e-5)


def test_only_scores_on_all_data_lead_when_scored_again(found):
    fitness, result = found[0], found[1]("none")
    again = evosearch.rescored(result, fitness, fitness, most=40)
    assert len(again.vectors) <= result.info.evaluated[GROWS:].sum()
    np.testing.assert_allclose(again.before.value, again.after.value, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fidelity": ()}, r"fidelity is \(\): give shares"),
        ({"fidelity": (0.5,)}, "grow from above 0 to 1.0, the last"),
        ({"fidelity": (0.0, 1.0)}, "grow from above 0"),
        ({"fidelity": (0.5, 0.5, 1.0)}, "grow from above 0"),
        ({"fidelity": (0.5, float("nan"), 1.0)}, "grow from above 0"),
        ({"fidelity": (0.25, 0.5, 1.0), "generations": 1}, "3 shares for 2 generations"),
        ({"fidelity": SHARES, "algorithm": "lshade"}, "'lshade' remembers scores, or plans with evaluations"),
        ({"fidelity": SHARES, "algorithm": "evosax:CMA_ES"}, "'evosax:CMA_ES' remembers scores"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(BadInput, match=message):
        Config(**settings)


def test_what_has_no_chunks_or_too_few_is_refused(problem, loss):
    with pytest.raises(BadInput, match="a sum over chunks"):
        evosearch.search(jax.random.key(0), make_config(), RATIOS, jnp.sum)
    with pytest.raises(BadInput, match="takes 1, 1, 2 of 2 chunks of the data: give fewer shares, or more chunks"):
        search(make_fitness(problem, loss, chunk=35), make_config(fidelity=(0.25, 0.5, 1.0)))
    with pytest.raises(BadInput, match="a front is searched on all data"):
        config = make_config(algorithm="rand1bin")
        evosearch.front(jax.random.key(0), config, RATIOS, lambda genome: jnp.stack([genome[0], -genome[0]]))
