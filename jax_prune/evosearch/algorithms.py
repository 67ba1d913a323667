"""How the next trials are proposed: one table of algorithms, every row a pure function.

``propose(key, population, score, config, bounds) -> trials [P, G]``, inside the box. The caller
evaluates the trials and keeps, slot by slot, the better of parent and trial.

Differential evolution: Storn and Price 1997; current-to-best: Price, Storn and Lampinen 2005.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jax_prune.evosearch.score import Score, index_of_best
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

Propose = Callable[[Array, Array, Score, "Config", Bounds], Array]


def rand1bin(key: Array, population: Array, score: Score, config: Config, bounds: Bounds) -> Array:
    """a + F (b - c), crossed with the parent; a, b, c distinct and not the parent. Explores widely."""
    chance = _draw(key, population, config)
    first, second, third = population[chance.partners]
    return _cross(population, first + chance.scale * (second - third), chance.crossed, bounds)


def best1bin(key: Array, population: Array, score: Score, config: Config, bounds: Bounds) -> Array:
    """best + F (b - c), crossed with the parent. Greedy: quick, and may stagnate."""
    chance = _draw(key, population, config)
    _, second, third = population[chance.partners]
    best = population[index_of_best(score)]
    return _cross(population, best + chance.scale * (second - third), chance.crossed, bounds)


def currenttobest1bin(key: Array, population: Array, score: Score, config: Config, bounds: Bounds) -> Array:
    """x + F (best - x) + F (b - c), crossed with the parent x."""
    chance = _draw(key, population, config)
    _, second, third = population[chance.partners]
    towards = population[index_of_best(score)] - population
    return _cross(population, population + chance.scale * (towards + second - third), chance.crossed, bounds)


def random(key: Array, population: Array, score: Score, config: Config, bounds: Bounds) -> Array:
    """Uniform in the box, whatever was seen before: the baseline with the same number of evaluations."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    return inside(bounds.lower + jax.random.uniform(key, population.shape) * width, bounds)


ALGORITHMS: dict[str, Propose] = {
    "rand1bin": rand1bin,
    "best1bin": best1bin,
    "currenttobest1bin": currenttobest1bin,
    "random": random,
}


def latin_hypercube(key: Array, population: int, bounds: Bounds) -> Array:
    """Uniform vectors [P, G] that fall in P different slices of every axis (McKay et al. 1979)."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    order, place = jax.random.uniform(key, (2, population, *width.shape))
    slices = jnp.argsort(order, axis=0)
    return inside(bounds.lower + (slices + place) / population * width, bounds)


def reflect(vectors: Array, bounds: Bounds) -> Array:
    """Folds what left the box back into it, as mirrors at both walls would: vectors [..., G]."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    span = jnp.where(width > 0, width, 1)
    turn = jnp.mod(vectors - bounds.lower, 2 * span)
    return inside(bounds.lower + jnp.minimum(turn, 2 * span - turn), bounds)


def inside(vectors: ArrayLike, bounds: Bounds) -> Array:
    """Clipped to the box."""
    return jnp.clip(vectors, bounds.lower, bounds.upper)


def distinct(uniform: Array) -> Array:
    """For each of P slots K other slots, all different: uniforms [K, P] in [0, 1) to int32 [K, P].

    The k-th takes one of the P - 1 - k that are free and steps over the taken ones in ascending
    order: O(P) time and memory, where a permutation per slot would take O(P^2).
    """
    population = uniform.shape[1]
    ascending, chosen = [jnp.arange(population, dtype=jnp.int32)], []
    for index, share in enumerate(uniform):
        free = population - 1 - index
        choice = jnp.minimum((share * free).astype(jnp.int32), free - 1)
        for other in ascending:
            choice += choice >= other
        chosen.append(choice)
        ascending = _inserted(ascending, choice)
    return jnp.stack(chosen)


class _Chance(NamedTuple):
    """Everything random about a generation's trials."""

    partners: Array  # int32 [3, P], distinct and not the slot itself
    scale: Array  # F, float32 [P, 1]
    crossed: Array  # bool [P, G]: taken from the mutant, at least one entry a trial


def _draw(key: Array, population: Array, config: Config) -> _Chance:
    """One call of the generator for all of it: several would take seconds more to compile."""
    slots, length = population.shape
    draws = jax.random.uniform(key, (5 + length, slots))
    lowest, highest = config.scale
    sure = jnp.minimum((draws[4] * length).astype(jnp.int32), length - 1)
    crossed = (draws[5:] < config.crossover).T | (sure[:, None] == jnp.arange(length))
    return _Chance(distinct(draws[:3]), lowest + (highest - lowest) * draws[3][:, None], crossed)


def _cross(parents: Array, mutants: Array, crossed: Array, bounds: Bounds) -> Array:
    return jnp.where(crossed, reflect(mutants, bounds), parents)


def _inserted(ascending: list[Array], new: Array) -> list[Array]:
    """The new entries put where they belong, slot by slot."""
    longer = []
    for other in ascending:
        longer.append(jnp.minimum(other, new))
        new = jnp.maximum(other, new)
    return [*longer, new]
