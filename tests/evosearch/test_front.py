"""The laws of the front, and its hypervolume against pymoo's NSGA-II at equal evaluations and equal size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config
from jax_prune.evosearch.front import compilations, selected
from jax_prune.evosearch.pareto import Points

LOWER, UPPER = np.array([-3.0, 0.5, 2.0, -1.0, 0.0]), np.array([4.0, 0.5, 9.0, 1.0, 1e-3])
BOX = Bounds(LOWER, UPPER)  # one side of width 0, one very narrow
SMALL = Config("rand1bin", population=10, generations=11)
every_proposer = pytest.mark.parametrize("algorithm", ["best1bin", "random"])


def spheres(genome):
    return jnp.array([jnp.sum((genome - 1) ** 2), jnp.sum((genome - 4) ** 2), jnp.sum(jnp.abs(genome))])


def half_nan(genome):
    return spheres(genome).at[1].add(jnp.where(genome[0] < 0, jnp.nan, 0.0))


def constrained(genome):
    return spheres(genome), jnp.maximum(0.0, 3 - genome[0])


def run(objectives=spheres, seed=0, config=SMALL, capacity=120, **settings):
    return evosearch.front(jax.random.key(seed), config, BOX, objectives, capacity=capacity, **settings)


def beaten(values, violation, others, other_violation):
    """Whether any of the others dominates, for every row: brute force."""
    result = []
    for row, missed in zip(values, violation, strict=True):
        no_higher, lower = (others <= row).all(1), (others < row).any(1)
        result.append(((other_violation < missed) | ((other_violation == missed) & no_higher & lower)).any())
    return np.array(result)


def everything(found):
    """All finite vectors of a run: values [E, M], violation [E]."""
    values, violation = found.info.values.reshape(-1, found.values.shape[1]), found.info.violation.ravel()
    finite = np.isfinite(values).all(1) & np.isfinite(violation)
    return values[finite], violation[finite]


@every_proposer
@pytest.mark.parametrize("objectives", [spheres, half_nan, constrained])
def test_the_front_is_all_that_nothing_seen_dominates(objectives, algorithm):
    config = Config(algorithm=algorithm, population=10, generations=11)
    found = run(objectives, config=config)
    values, violation = everything(found)
    best = ~beaten(values, violation, values, violation)
    expected = {(*v, c) for v, c in zip(values[best], violation[best], strict=True)}
    assert {(*v, c) for v, c in zip(found.values, found.violation, strict=True)} == expected
    assert len(found.values) == len(expected) > 3
    assert (np.diff(found.values[:, 0]) >= 0).all()


def test_a_full_front_has_the_stated_size_and_nothing_in_it_dominates():
    found = run(capacity=8)
    assert len(found.values) == 8 < len(run().values)
    assert not beaten(found.values, found.violation, found.values, found.violation).any()


def test_vectors_stay_in_the_box_and_are_what_was_scored():
    found = run()
    for vectors, values in ((found.vectors, found.values), (found.info.vectors, found.info.values)):
        assert (vectors >= LOWER.astype(np.float32)).all() and (vectors <= UPPER.astype(np.float32)).all()
        x = vectors.astype(np.float64)
        again = np.stack([((x - 1) ** 2).sum(-1), ((x - 4) ** 2).sum(-1), np.abs(x).sum(-1)], -1)
        np.testing.assert_allclose(values, again, rtol=1e-5)
    assert found.info.vectors.shape == (12, 10, 5) and SMALL.evaluations == 120


def test_same_key_same_front_and_another_key_another():
    one, two, other = run(), run(), run(seed=1)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not np.array_equal(one.info.vectors, other.info.vectors)


@pytest.mark.compat
def test_nan_never_enters():
    found = run(half_nan)
    failed = found.info.vectors[..., 0] < 0
    assert failed.any() and np.isinf(found.info.values[failed]).all() and np.isinf(found.info.violation[failed]).all()
    assert np.isfinite(found.values).all() and (found.vectors[:, 0] >= 0).all()
    population = found.state.population
    assert np.isfinite(population.values).all() and (population.vectors[:, 0] >= 0).all()


def test_feasible_comes_before_any_value():
    found = run(constrained)
    assert (found.info.violation > 0).any()
    assert (found.violation == 0).all() and (found.vectors[:, 0] >= 3).all()
    hopeless = run(lambda genome: (spheres(genome), 1 + jnp.abs(genome[0])))
    least = hopeless.info.violation.min()
    np.testing.assert_array_equal(hopeless.violation, least)


def test_the_population_is_gde3s():
    """Slot by slot: a trial that is no worse takes the place, one that is worse goes, else both stay."""

    def points(values):
        return Points(jnp.arange(len(values), dtype=jnp.float32)[:, None], jnp.asarray(values, jnp.float32),
                      jnp.zeros(len(values)))  # fmt: skip

    parents = points([[1, 4], [2, 3], [3, 2], [9, 9]])
    trials = points([[1, 4], [5, 5], [2.5, 2], [0, 8]])
    trials = trials._replace(vectors=trials.vectors + 10)
    select = jax.jit(selected)
    kept = select(parents, trials)
    assert set(np.asarray(kept.vectors)[:, 0]) == {10, 1, 12, 13}
    apart = points([[0, 9], [1, 8], [4, 4], [9, 0]])
    beside = points([[0.1, 8.9], [2, 6], [6, 2], [8.9, 0.1]])
    kept = np.asarray(select(apart, beside).values)  # eight good ones, four places
    assert {(0, 9), (9, 0)} <= {(float(a), float(b)) for a, b in kept} and len({tuple(row) for row in kept}) == 4


@pytest.mark.parametrize("settings", [{"chunk": 5}, {"at_once": 3}])
def test_how_it_is_run_does_not_change_the_front(settings):
    plain, other = run(), run(config=Config("rand1bin", population=10, generations=11, **settings))
    np.testing.assert_allclose(other.values, plain.values, rtol=1e-5)


@pytest.mark.compat
def test_one_trace_and_one_program_for_new_targets():
    traces = []

    def counted(target, genome):
        traces.append(1)
        return jnp.array([jnp.sum((genome - target) ** 2), jnp.sum(genome)])

    config, before = Config("rand1bin", population=10, generations=7, at_once=3, chunk=2), compilations()
    for target in (0.5, 2, np.float64(3), jnp.ones(()), np.float32(1)):
        goal = np.full(5, target, np.float32) if target == 2 else jnp.full(5, target, jnp.float32)
        evosearch.front(jax.random.key(0), config, Bounds(LOWER - target, UPPER), jax.tree_util.Partial(counted, goal))
    assert len(traces) == 1 and compilations() == before + 1


def test_start_vectors_and_progress():
    seen = []
    start = np.array([[1.0, 0.5, 2.0, 1.0, 5e-4], [9.0] * 5])
    found = run(start=start, progress=lambda units, text: seen.append((units, text)))
    np.testing.assert_array_equal(found.info.vectors[0, :2], np.clip(start, LOWER, UPPER).astype(np.float32))
    assert sum(units for units, _ in seen) == 12 and seen[-1][1] == f"front of {len(found.values)}"


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (jnp.sum, r"float32\[\] as values in generation 0: return an array \[M\]"),
        (lambda genome: (genome[0], genome[1]), r"float32\[\] as values"),
        (lambda genome: (genome, genome), r"float32\[5\] as violation"),
        (lambda genome: genome[:0], r"float32\[0\] as values"),
        (lambda genome: [genome[0], genome[1]], "returned a list as values"),
        (lambda genome: genome > 0, r"bool\[5\] as values"),
        (lambda genome: genome * jnp.nan, "NaN or infinite for all candidates of generation 0"),
        (lambda genome: genome[:2] / 0 * float(genome[0]), "raised ConcretizationTypeError"),
        (None, "fitness is a NoneType"),
    ],
)
def test_bad_objectives_are_one_line(objectives, message):
    with pytest.raises(BadInput, match=message) as caught:
        run(objectives)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_one_line():
    with pytest.raises(BadInput, match="searched by 'shade': known are rand1bin, best1bin, random"):
        run(config=Config(algorithm="shade"))
    with pytest.raises(BadInput, match="capacity is 5: 3 objectives need at least 6"):
        run(capacity=5)
    with pytest.raises(BadInput, match="start has shape"):
        run(start=np.zeros(5))


# ---- against pymoo, at equal evaluations and as many points ----

REFERENCE = np.array([1.1, 1.1])


def zdt1(x):
    g = 1 + 9 * jnp.mean(x[1:])
    return jnp.array([x[0], g * (1 - jnp.sqrt(x[0] / g))])


def zdt2(x):
    g = 1 + 9 * jnp.mean(x[1:])
    return jnp.array([x[0], g * (1 - (x[0] / g) ** 2)])


def zdt3(x):
    g = 1 + 9 * jnp.mean(x[1:])
    share = x[0] / g
    return jnp.array([x[0], g * (1 - jnp.sqrt(share) - share * jnp.sin(10 * jnp.pi * x[0]))])


def bnh(x):
    """Binh and Korn (1997), values over 140 and 50."""
    values = jnp.array([(4 * x[0] ** 2 + 4 * x[1] ** 2) / 140, ((x[0] - 5) ** 2 + (x[1] - 5) ** 2) / 50])
    missed = jnp.maximum((x[0] - 5) ** 2 + x[1] ** 2 - 25, 0), jnp.maximum(7.7 - (x[0] - 8) ** 2 - (x[1] + 3) ** 2, 0)
    return values, sum(missed)


def nsga2(objectives, bounds, population, evaluations, seed):
    """Values of pymoo's final population, on the very same functions."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    judged = jax.jit(jax.vmap(objectives))
    returned = jax.eval_shape(objectives, jnp.asarray(bounds.lower, jnp.float32))
    pair = isinstance(returned, tuple)
    number = (returned[0] if pair else returned).shape[0]

    class Wrapped(Problem):
        def __init__(self):
            super().__init__(
                n_var=len(bounds.lower), n_obj=number, n_ieq_constr=int(pair), xl=bounds.lower, xu=bounds.upper
            )

        def _evaluate(self, x, out, *args, **kwargs):
            values = judged(jnp.asarray(x, jnp.float32))
            out["F"] = np.asarray(values[0] if pair else values, np.float64)
            if pair:
                out["G"] = np.asarray(values[1], np.float64)[:, None]

    done = minimize(Wrapped(), NSGA2(pop_size=population), ("n_eval", evaluations), seed=seed)
    return done.F


def hypervolumes(objectives, bounds, config, reference=REFERENCE, seeds=range(5)):
    """Medians over seeds: ours, with as many points as NSGA-II's population, and NSGA-II's."""
    from pymoo.indicators.hv import HV

    indicator = HV(ref_point=reference)
    ours = [
        evosearch.front(jax.random.key(seed), config, bounds, objectives, capacity=config.population).values
        for seed in seeds
    ]
    theirs = [nsga2(objectives, bounds, config.population, config.evaluations, seed) for seed in seeds]
    return tuple(float(np.median([indicator(values) for values in runs])) for runs in (ours, theirs))


@pytest.mark.parametrize("problem", [zdt1, zdt2, zdt3, bnh])
def test_hypervolume_is_nsga2s_on_textbook_problems(problem):
    box = Bounds(np.zeros(2), np.array([5.0, 3.0])) if problem is bnh else Bounds(np.zeros(10), np.ones(10))
    config = Config("rand1bin", population=40, generations=99, crossover=0.2, scale=(0.2, 0.5), at_once=40, chunk=50)
    ours, theirs = hypervolumes(problem, box, config)
    assert theirs > 0.4 and ours >= 0.99 * theirs


@pytest.mark.slow
@pytest.mark.parametrize("by_metric", [False, True])
def test_hypervolume_is_nsga2s_on_a_network(problem, loss, metric, by_metric):
    masked = evosearch.masked_loss(*problem, loss, metric)
    objectives = evosearch.trade_off(masked, [evosearch.kept_parameters(masked)], by_metric=by_metric)
    config = Config("rand1bin", population=40, generations=24, scale=(0.2, 0.5), at_once=40, chunk=25)
    scale = jnp.array([1.0 if by_metric else float(masked(jnp.ones(3, jnp.int32)).loss), 1.0])

    def scaled(objectives, scale, genome):
        values, violation = objectives(genome)
        return values / scale, violation

    found = jax.tree_util.Partial(scaled, objectives, scale)
    ours, theirs = hypervolumes(found, Bounds(np.zeros(3), np.full(3, 0.97)), config)
    assert theirs > 0.5 and ours >= 0.99 * theirs


def test_differential_evolution_beats_random_vectors():
    box = Bounds(np.zeros(10), np.ones(10))

    def volume(algorithm):
        config = Config(algorithm=algorithm, population=40, generations=49, crossover=0.2, scale=(0.2, 0.5), at_once=40)
        values = evosearch.front(jax.random.key(0), config, box, zdt1).values
        return area(values, REFERENCE)

    assert volume("random") < volume("rand1bin") / 2


def area(values, reference):
    """Hypervolume of two objectives: the staircase, summed."""
    inside = values[(values < reference).all(1)]
    inside = inside[np.argsort(inside[:, 0])]
    lowest = np.minimum.accumulate(inside[:, 1])
    return float(np.sum(np.diff(np.append(inside[:, 0], reference[0])) * (reference[1] - lowest)))
