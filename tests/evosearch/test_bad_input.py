"""Every mistake is one clear line, and names the generation where there is one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, Score

BOX = Bounds(np.zeros(3), np.ones(3))
FEW = Config(population=4, generations=3, chunk=2)


def search(fitness=jnp.sum, bounds=BOX, config=FEW, **arguments):
    return evosearch.search(jax.random.key(0), config, bounds, fitness, **arguments)


def raising(genome):
    raise RuntimeError("no such sensor\nsecond line")


@pytest.mark.parametrize(
    ("fitness", "message"),
    [
        (lambda genome: jnp.nan * genome[0], "NaN or infinite for all candidates of generation 0"),
        (lambda genome: jnp.inf + genome[0], "NaN or infinite for all candidates of generation 0"),
        (lambda genome: Score(genome[0], jnp.nan), "NaN or infinite for all candidates of generation 0"),
        (lambda genome: genome, r"float32\[3\] as value in generation 0"),
        (lambda genome: genome[:1], r"float32\[1\] as value in generation 0"),
        (lambda genome: Score(genome[0], genome), r"float32\[3\] as violation in generation 0"),
        (lambda genome: (genome[0], genome[1]), "returned a tuple as value in generation 0"),
        (lambda genome: None, "returned a NoneType as value in generation 0"),
        (lambda genome: "low", "returned a str as value in generation 0"),
        (lambda genome: genome[0] > 0, r"bool\[\] as value in generation 0"),
        (lambda genome: genome[0] * 1j, r"complex64\[\] as value in generation 0"),
        (lambda genome: float(genome[0]), "raised ConcretizationTypeError in generation 0.*jax.numpy"),
        (raising, "raised RuntimeError in generation 0: no such sensor"),
        (3.0, "fitness is a float: give a function"),
    ],
)
def test_fitness(fitness, message):
    with pytest.raises(BadInput, match=message) as caught:
        search(fitness)
    assert "\n" not in str(caught.value)


def test_some_nan_candidates_are_no_error():
    result = search(lambda genome: jnp.where(genome[0] < 0.5, jnp.nan, genome[0]))
    assert np.isfinite(result.score.value)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        ([0, 0.9, 0], [1, 0.1, 1], r"bounds\[1\] are crossed: lower 0.9"),
        ([0, 0, np.nan], [1, 1, 1], r"bounds\[2\] are nan"),
        ([0, 0, 0], [1, np.inf, 1], r"bounds\[1\] are 0.0 and inf"),
        ([0, 0], [1, 1, 1], r"shapes \[2\] and \[3\]"),
        (0.0, 1.0, r"shapes \[\] and \[\]"),
        ([], [], r"shapes \[0\]"),
        ("low", "high", "a side of the bounds is .*low.* give an array of real numbers"),
        (np.zeros(3) + 0j, [1, 1, 1], "give an array of real numbers"),
        (None, None, "give an array of real numbers"),
    ],
)
def test_bounds(lower, upper, message):
    with pytest.raises(BadInput, match=message):
        search(bounds=Bounds(np.asarray(lower), np.asarray(upper)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "rand2bin"}, "unknown search algorithm 'rand2bin': did you mean rand1bin"),
        ({"algorithm": "annealing"}, "known: rand1bin, best1bin.*and evosax:NAME"),
        ({"algorithm": "evosax:CMAES"}, "evosax has no algorithm 'CMAES': did you mean CMA_ES"),
        ({"algorithm": "evosax:"}, "unknown search algorithm 'evosax:'"),
        ({"population": 3}, "population is 3"),
        ({"generations": -1}, "generations is -1"),
        ({"crossover": 1.5}, "crossover is 1.5"),
        ({"scale": (1.0, 0.5)}, "scale is"),
        ({"scale": (0.5, float("inf"))}, "scale is"),
        ({"at_once": 0}, "at_once is 0"),
        ({"at_once": 2.5}, "at_once is 2.5: give a whole number"),
        ({"population": "ten"}, "population is 'ten': give a whole number"),
        ({"population": True}, "population is True: give a whole number"),
        ({"scale": 3}, "scale is 3: give a tuple of 2, each a number"),
        ({"scale": [0.5, 1.0]}, r"scale is \[0.5, 1.0\]: give a tuple"),
        ({"crossover": None}, "crossover is None: give a number"),
        ({"algorithm": None}, "algorithm is None: give text"),
        ({"repair": ["clip"]}, "repair is .*: give text"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(BadInput, match=message):
        Config(**settings)


@pytest.mark.parametrize("start", [np.zeros(3), np.zeros((5, 3)), np.zeros((2, 4)), np.full((1, 3), np.nan)])
def test_start(start):
    with pytest.raises(BadInput, match="start"):
        search(start=start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": 0}, "key is 0: give one key"),
        ({"key": None}, "key is None: give one key"),
        ({"key": np.zeros(2)}, "give one key"),
        ({"key": jax.random.split(jax.random.key(0))}, "give one key"),
        ({"config": {}}, "config is {}: give an evosearch.Config"),
        ({"bounds": 3}, r"bounds are 3: give Bounds\(lower, upper\)"),
        ({"bounds": ([0, [1]], [1, 1])}, "give an array of real numbers"),
        ({"start": "x"}, "start is 'x': give an array of real numbers"),
        ({"progress": 3}, "progress is 3: give a function"),
        ({"mesh": 3}, "mesh is 3: give a jax.sharding.Mesh"),
        ({"checkpoint": 3}, "checkpoint is 3: give the path"),
        ({"checkpoint": "c", "checkpoint_seconds": "x"}, "checkpoint_seconds is 'x'"),
        ({"checkpoint": "c", "checkpoint_seconds": -1}, "checkpoint_seconds is -1"),
    ],
)
def test_arguments_that_are_of_no_use(arguments, message):
    given = {"key": jax.random.key(0), "config": FEW, "bounds": BOX, "fitness": jnp.sum} | arguments
    with pytest.raises(BadInput, match=message) as caught:
        evosearch.search(**given)
    assert "\n" not in str(caught.value)
    if set(arguments) <= {"key", "config", "bounds", "start", "progress"}:
        del given["fitness"]
        with pytest.raises(BadInput, match=message):
            config = Config("rand1bin", population=4, generations=1) if given["config"] is FEW else given["config"]
            evosearch.front(**given | {"config": config}, objectives=lambda genome: genome[:2])


@pytest.mark.parametrize("capacity", ["many", 4.5])
def test_a_capacity_is_a_whole_number(capacity):
    config = Config("rand1bin", population=4, generations=1)
    with pytest.raises(BadInput, match="capacity is .*: give a whole number"):
        evosearch.front(jax.random.key(0), config, BOX, lambda genome: genome[:2], capacity=capacity)


@pytest.mark.compat
def test_lists_and_old_keys_do_as_well_as_arrays():
    found = search(bounds=Bounds([0, 0, 0], [1, 1, 1]))
    np.testing.assert_array_equal(found.best, search().best)
    assert np.isfinite(evosearch.search(jax.random.PRNGKey(0), FEW, BOX, jnp.sum).score.value)


def callback(value):
    """A fitness that asks the host, for ``value(number of calls so far, genome)``."""
    calls = []

    def asked(genome):
        calls.append(1)
        return value(len(calls), genome)

    return lambda genome: jax.pure_callback(asked, jax.ShapeDtypeStruct((), jnp.float32), genome)


def torn_after(calls, genome):
    if calls > 5 * FEW.population // 2:
        raise RuntimeError("no such sensor")
    return np.float32(genome.sum())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torn_after, "failed in generations 2 to 3: .*no such sensor"),
        (lambda calls, genome: np.ones(3, np.float32), r"failed in generations 0 to 1: .*\(3,\)"),
    ],
)
def test_a_host_callback_that_fails_says_when_in_one_line(value, message):
    config = Config(population=4, generations=3, chunk=2, race="none")
    with pytest.raises(BadInput, match=message) as caught:
        search(callback(value), config=config)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
