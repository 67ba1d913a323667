"""The functions of search_functions.py: six problems in a box, each written once for NumPy and jax.numpy.

Optima are moved off the centre by a fixed vector, so that a search drawn to the centre gains nothing. All minima are 0
but that of ``pruning``, whose optimum is not known: there only the order of the searches counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LAYERS = 16
BUDGET = 0.05  # of all entries may be kept
SIZES = np.geomspace(200, 2_000_000, LAYERS)[np.random.default_rng(3).permutation(LAYERS)]
SENSITIVITY = np.random.default_rng(4).uniform(0.3, 3.0, LAYERS)  # loss where a layer is gone
STEEPNESS = np.geomspace(5, 120, LAYERS)[np.argsort(np.argsort(SIZES))]  # how soon it falls: large layers are redundant
NUMBERS = np.asarray([SIZES / SIZES.sum(), SENSITIVITY, STEEPNESS], np.float32)


class Problem(NamedTuple):
    """``function(xp, x [G]) -> (value, violation)`` over the box; ``shift`` [G] is where its centre went."""

    name: str
    function: Callable[[Any, Any], tuple[Any, Any]]
    lower: np.ndarray
    upper: np.ndarray


def sphere(xp: Any, z: Any) -> Any:
    return xp.sum(z**2)


def rastrigin(xp: Any, z: Any) -> Any:
    return xp.sum(z**2 - 10 * xp.cos(2 * np.pi * z) + 10)


def ackley(xp: Any, z: Any) -> Any:
    return -20 * xp.exp(-0.2 * xp.sqrt(xp.mean(z**2))) - xp.exp(xp.mean(xp.cos(2 * np.pi * z))) + 20 + np.float32(np.e)


def rosenbrock(xp: Any, z: Any) -> Any:
    y = z + 1
    return xp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


def pruning(xp: Any, genome: Any) -> tuple[Any, Any]:
    """Genome: log kept shares [16]. Every layer loses something, neighbours more together; the budget constrains."""
    weight, sensitivity, steepness = NUMBERS
    share = xp.exp(genome)
    lost = sensitivity * xp.exp(-steepness * share)
    value = xp.sum(lost) + xp.sum(lost[1:] * lost[:-1])
    return value, xp.maximum(0.0, xp.sum(weight * share) - BUDGET)


def shifted(name: str, function: Callable[[Any, Any], Any], length: int, low: float, high: float) -> Problem:
    """The optimum lies up to 0.4 half-widths off the centre along every axis."""
    centre, half = (low + high) / 2, (high - low) / 2
    at = (centre + half * np.random.default_rng(length).uniform(-0.4, 0.4, length)).astype(np.float32)
    box = (np.full(length, side, np.float32) for side in (low, high))
    return Problem(f"{name}-{length}", lambda xp, x: (function(xp, x - at), 0.0), *box)


PROBLEMS = (
    shifted("sphere", sphere, 16, -5.12, 5.12),
    shifted("rastrigin", rastrigin, 5, -5.12, 5.12),
    shifted("rastrigin", rastrigin, 16, -5.12, 5.12),
    shifted("ackley", ackley, 16, -32.768, 32.768),
    shifted("rosenbrock", rosenbrock, 16, -5.0, 10.0),
    Problem("pruning-16", pruning, np.full(LAYERS, np.log(5e-3), np.float32), np.zeros(LAYERS, np.float32)),
)
