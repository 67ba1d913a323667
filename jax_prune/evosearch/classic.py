"""Differential evolution whose settings stay (Storn and Price 1997; Price, Storn and Lampinen 2005); random search."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch import archive as archives
from jax_prune.evosearch.archive import Archive
from jax_prune.evosearch.proposal import Algorithm, Trials, cross, crossed, current_to_pbest
from jax_prune.evosearch.score import Score, index_of_best
from jax_prune.evosearch.vectors import distinct, uniform
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

BEST_SHARE = 0.1  # of the population that leads


def _rand1bin(key: Array, population: Array, score: Score, memory: tuple[()], config: Config, bounds: Bounds) -> Trials:
    """a + F (b - c), crossed with the parent; a, b, c distinct and not the parent. Explores widely."""
    chance = _draw(key, population, config)
    first, second, third = population[chance.partners]
    return _trials(key, population, first + chance.scale * (second - third), chance, config, bounds)


def _best1bin(key: Array, population: Array, score: Score, memory: tuple[()], config: Config, bounds: Bounds) -> Trials:
    """best + F (b - c), crossed with the parent. Greedy: quick, and may stagnate."""
    chance = _draw(key, population, config)
    _, second, third = population[chance.partners]
    best = population[index_of_best(score)]
    return _trials(key, population, best + chance.scale * (second - third), chance, config, bounds)


def _currenttobest1bin(
    key: Array, population: Array, score: Score, memory: tuple[()], config: Config, bounds: Bounds
) -> Trials:
    """x + F (best - x) + F (b - c), crossed with the parent x."""
    chance = _draw(key, population, config)
    _, second, third = population[chance.partners]
    towards = population[index_of_best(score)] - population
    return _trials(key, population, population + chance.scale * (towards + second - third), chance, config, bounds)


def _currenttopbest1bin(
    key: Array, population: Array, score: Score, memory: Archive, config: Config, bounds: Bounds
) -> Trials:
    """``current_to_pbest``, crossed with the parent x."""
    chance = _draw(key, population, config)
    mutants = current_to_pbest(population, score, memory, chance.scale, BEST_SHARE, chance.draws[:3])
    return _trials(key, population, mutants, chance, config, bounds)


def _random(key: Array, population: Array, score: Score, memory: tuple[()], config: Config, bounds: Bounds) -> Trials:
    """Uniform in the box, whatever was seen before: the baseline with the same number of evaluations."""
    nothing = jnp.zeros(len(population), jnp.float32)
    return Trials(uniform(key, len(population), bounds), nothing, nothing)


rand1bin = Algorithm(_rand1bin)
best1bin = Algorithm(_best1bin)
currenttobest1bin = Algorithm(_currenttobest1bin)
currenttopbest1bin = Algorithm(
    _currenttopbest1bin,
    lambda config, length: archives.empty(config.population, length),
    lambda key, memory, outcome, config: archives.insert(key, memory, outcome.parents, outcome.gain > 0),
)
random = Algorithm(_random)


class _Chance(NamedTuple):
    """Everything random about a generation's trials."""

    draws: Array  # uniforms [5 + G, P] that the rest was made of
    partners: Array  # int32 [3, P], distinct and not the slot itself
    scale: Array  # F, float32 [P, 1]
    crossed: Array  # bool [P, G]: taken from the mutant, at least one entry a trial


def _draw(key: Array, population: Array, config: Config) -> _Chance:
    """One call of the generator for all of it: several would take seconds more to compile."""
    slots, length = population.shape
    draws = jax.random.uniform(key, (5 + length, slots))
    lowest, highest = config.scale
    scale = lowest + (highest - lowest) * draws[3][:, None]
    share = jnp.full(slots, config.crossover, jnp.float32)
    return _Chance(draws, distinct(draws[:3]), scale, crossed(share, draws[5:], draws[4]))


def _trials(key: Array, parents: Array, mutants: Array, chance: _Chance, config: Config, bounds: Bounds) -> Trials:
    vectors = cross(key, parents, mutants, chance.crossed, config.repair, bounds)
    return Trials(vectors, chance.scale[:, 0], jnp.full(len(parents), config.crossover, jnp.float32))
