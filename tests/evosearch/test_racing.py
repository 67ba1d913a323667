"""Early decisions: the same populations as full evaluation, for less work."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch, nets
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, evaluation, seen
from jax_prune.evosearch.score import Score
from jax_prune.pruning import groups, masks, scores
from jax_prune.types import Batch

pytestmark = pytest.mark.optimized

RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
SIZES = (84, 104, 36)


def make_fitness(problem, loss, metric, form):
    masked = evosearch.masked_loss(*problem, loss, metric, chunk=9)
    if form == "budget":
        return evosearch.budget_loss(masked, 70, RATIOS), evosearch.genome_box(SIZES, RATIOS)
    return evosearch.tolerance(masked, 1.0, 0.3), RATIOS


def search(fitness, box, seed=0, algorithm="rand1bin", **changed):
    config = Config(algorithm=algorithm, population=10, generations=9, **changed)
    return evosearch.search(jax.random.key(seed), config, box, fitness)


def same_populations(left, right):
    for name in ("population", "score", "best", "best_score"):
        jax.tree.map(np.testing.assert_array_equal, getattr(left.state, name), getattr(right.state, name))
    np.testing.assert_array_equal(left.info.vectors, right.info.vectors)
    np.testing.assert_array_equal(left.info.accepted, right.info.accepted)


@pytest.mark.parametrize(
    ("algorithm", "at_once", "form"),
    [
        ("rand1bin", 1, "budget"),
        ("shade", 1, "tolerance"),
        ("rand1bin", 4, "tolerance"),
        ("shade", 4, "budget"),
        ("shade", 10, "budget"),
        ("lshade", 1, "budget"),
        ("lshade", 4, "tolerance"),
    ],
)
def test_the_very_same_populations_for_less_work(make, loss, metric, form, at_once, algorithm):
    for seed in range(3):
        fitness, box = make_fitness(make(seed), loss, metric, form)
        whole = search(fitness, box, seed, algorithm, at_once=at_once, race="none")
        raced = search(fitness, box, seed, algorithm, at_once=at_once)
        same_populations(raced, whole)
        evaluated, exact = whole.info.evaluated, raced.info.exact
        np.testing.assert_array_equal(whole.info.work, evaluated)
        np.testing.assert_array_equal(whole.info.exact, evaluated)
        assert (raced.info.work[0] == 1).all() and raced.info.work[1:][evaluated[1:]].mean() < 0.9
        for part in ("value", "violation"):
            least, true = getattr(raced.info.score, part), getattr(whole.info.score, part)
            np.testing.assert_array_equal(least[exact], true[exact])
            assert (least <= true).all()
        assert not raced.info.accepted[~exact].any() and (evaluated & ~exact).any()
        assert not raced.info.work[~evaluated].any()


def test_an_algorithm_that_reads_all_scores_is_told_true_ones(problem, loss, metric):
    fitness, box = make_fitness(problem, loss, metric, "tolerance")
    whole = search(fitness, box, 0, "evosax:DifferentialEvolution", race="none")
    raced = search(fitness, box, 0, "evosax:DifferentialEvolution")
    same_populations(raced, whole)
    jax.tree.map(np.testing.assert_array_equal, raced.info.score, whole.info.score)
    assert raced.info.exact.all() and ((raced.info.work == 1) | (raced.info.work == 0)).all()


class Recurrent(nnx.Module):
    """Time comes first inside: what is made of x beforehand has no leading axis of examples."""

    def __init__(self, *, rngs):
        self.cell = nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.cell(2 * x)[:, -1])


class Convolved(nnx.Module):
    def __init__(self, *, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.last = nnx.Linear(4 * 36, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.norm(self.first(x))).reshape(len(x), -1))


@pytest.mark.parametrize(("module", "shape"), [(Recurrent, (9, 3)), (Convolved, (6, 6, 1))])
def test_other_networks_too(module, shape):
    net = nets.from_nnx(module(rngs=nnx.Rngs(0)))
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    x = np.random.default_rng(0).normal(size=(63, *shape)).astype(np.float32)
    batch = Batch(x, np.asarray(net(x)))
    masked = evosearch.masked_loss(
        net, parts, ranks, batch, lambda o, b: jnp.sum((o - b.y) ** 2, -1), chunk=9, recalibration=x
    )
    fitness = evosearch.budget_loss(masked, sum(masked.sizes) // 2, groups.bounds(parts))
    raced, whole = (search(fitness, fitness.box, race=race) for race in ("exact", "none"))
    same_populations(raced, whole)
    assert raced.info.work[1:].mean() < 0.95
    arranged, _ = fitness.arranged(fitness.kept(raced.best))
    last = raced.info
    for judged in (fitness, arranged):  # examples in another order give the same loss
        founds = evaluation.evaluated(judged, jnp.asarray(last.vectors[-1]), 1).value
        for found, value, exact in zip(founds, last.score.value[-1], last.exact[-1], strict=True):
            assert found == pytest.approx(value, rel=1e-4) if exact else found >= value * (1 - 1e-4)


def test_a_trial_that_keeps_more_than_a_feasible_parent_is_never_evaluated(problem, loss, metric):
    fitness, box = make_fitness(problem, loss, metric, "tolerance")
    info = search(fitness, box).info
    parents = np.full(10, np.inf, np.float32)
    for value, violation, accepted, work in zip(*info.score, info.accepted, info.work, strict=True):
        assert (work[value > parents * (1 + 3e-6)] == 0).all()
        parents = np.where(accepted & (violation == 0), value, parents)
    assert (info.work == 0).any()


def test_counts_that_were_seen_before_are_looked_up(problem, loss):
    ratios = Bounds(np.array([0.0, 0.9, 0.7]), np.array([0.02, 0.9, 0.7]))  # two counts to choose from
    fitness = evosearch.tolerance(evosearch.masked_loss(*problem, loss, lambda o, b: jnp.ones(len(o))), 1.0, 0.0)
    result = search(fitness, ratios)
    kept = np.asarray(jax.vmap(fitness.kept)(result.info.vectors[1:].reshape(-1, 3))).reshape(9, 10, 3)
    assert len(np.unique(kept.reshape(-1, 3), axis=0)) == 2
    # after the examples were arranged anew each allocation is evaluated once more at most, by all of one generation
    evaluated = result.info.work[1:] > 0
    for allocation in np.unique(kept.reshape(-1, 3), axis=0):
        generations = np.flatnonzero((evaluated & (kept == allocation).all(-1)).any(1))
        assert len(generations) <= 1
    same_populations(result, search(fitness, ratios, race="none"))


def test_nan_has_lost_at_once(problem, loss):
    limit = 110  # some candidates' outputs are above it

    def sick(outputs, batch):
        return jnp.where(jnp.abs(outputs).sum(-1) > limit, jnp.nan, loss(outputs, batch))

    fitness, box = make_fitness(problem, sick, None, "budget")
    raced, whole = search(fitness, box), search(fitness, box, race="none")
    same_populations(raced, whole)
    assert np.isinf(raced.info.score.value).any() and np.isfinite(raced.score.value)


def test_losses_below_zero_are_refused(problem, loss):
    fitness, box = make_fitness(problem, lambda o, b: loss(o, b) - 1e6, None, "budget")
    with pytest.raises(BadInput, match="race='none'"):
        search(fitness, box)
    assert search(fitness, box, race="none").score.value < 0


def test_the_best_loses_most_on_the_examples_that_come_first(problem, loss):
    fitness, _ = make_fitness(problem, loss, None, "budget")
    kept = jnp.array([40, 20, 10])
    arranged, sound = fitness.arranged(kept)
    params = arranged.prepare(kept)
    parts = [float(arranged.part(params, index).loss) for index in range(arranged.chunk_count)]
    assert sound and parts == sorted(parts, reverse=True) and parts[0] > 2 * parts[-1] > 0
    np.testing.assert_allclose(arranged.loss(kept), fitness.loss(kept), rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=1, max_size=30))
def test_seen_is_a_dictionary(rows):
    known, memory = {}, seen.empty(30)
    for number, row in enumerate(rows):
        marks = seen.marks(jnp.asarray([row], jnp.int32))
        score, there = seen.look_up(memory, marks)
        assert bool(there[0]) == (tuple(row) in known)
        if there[0]:
            assert float(score.value[0]) == known[tuple(row)]
        else:
            known[tuple(row)] = number
            memory = seen.insert(memory, marks, Score(jnp.full(1, float(number)), jnp.zeros(1)), jnp.ones(1, bool))


def test_marks_of_near_allocations_differ():
    rng = np.random.default_rng(0)
    rows = np.unique(rng.integers(0, 40, (20_000, 4)), axis=0).astype(np.int32)
    marks = np.asarray(seen.marks(jnp.asarray(rows)))
    assert len(np.unique(marks, axis=0)) == len(rows)
    bits = np.unpackbits(np.ascontiguousarray(marks).view(np.uint8), axis=1).mean(axis=0)
    assert (abs(bits - 0.5) < 0.03).all()
