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
    ],
)
def test_settings(settings, message):
    with pytest.raises(BadInput, match=message):
        Config(**settings)


@pytest.mark.parametrize("start", [np.zeros(3), np.zeros((5, 3)), np.zeros((2, 4)), np.full((1, 3), np.nan)])
def test_start(start):
    with pytest.raises(BadInput, match="start"):
        search(start=start)
