"""Differential evolution that learns its F and CR: jDE (Brest et al. 2006), SHADE (Tanabe and Fukunaga 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch import archive as archives
from jax_prune.evosearch.archive import Archive
from jax_prune.evosearch.proposal import Algorithm, Outcome, Trials, cross, crossed, current_to_pbest
from jax_prune.evosearch.score import Score
from jax_prune.evosearch.vectors import below, distinct
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

RENEWED = 0.1  # jDE: how often a slot draws its F, and its CR, anew
JDE_SCALE = (0.1, 1.0)  # the range of F in jDE
BEST_SHARE = 0.2  # SHADE: p is drawn between 2 / P and this
SPREAD = 0.1  # SHADE: of the draws of F and CR around a memory


class Settings(NamedTuple):
    """jDE's memory: the F and CR of every slot, float32 [P]."""

    scale: Array
    crossover: Array


class History(NamedTuple):
    """SHADE's memory: H successful means of F and CR, float32 [H], the one to replace next, and the archive."""

    scale: Array
    crossover: Array
    place: Array  # int32
    archive: Archive


def _start_jde(config: Config, length: int) -> Settings:
    return Settings(*(jnp.full(config.population, value, jnp.float32) for value in (0.5, 0.9)))


def _propose_jde(
    key: Array, population: Array, score: Score, memory: Settings, config: Config, bounds: Bounds
) -> Trials:
    """rand/1/bin, every slot with an F and CR of its own that now and then are drawn anew."""
    slots, length = population.shape
    draws = jax.random.uniform(key, (8 + length, slots))
    low, high = JDE_SCALE
    scale = jnp.where(draws[0] < RENEWED, low + (high - low) * draws[1], memory.scale)
    share = jnp.where(draws[2] < RENEWED, draws[3], memory.crossover)
    first, second, third = population[distinct(draws[4:7])]
    mutants = first + scale[:, None] * (second - third)
    taken = crossed(share, draws[8:], draws[7])
    return Trials(cross(key, population, mutants, taken, config.repair, bounds), scale, share)


def _learn_jde(key: Array, memory: Settings, outcome: Outcome, config: Config) -> Settings:
    """What made a trial that was accepted stays with its slot."""
    trials = outcome.trials
    return Settings(
        jnp.where(outcome.accepted, trials.scale, memory.scale),
        jnp.where(outcome.accepted, trials.crossover, memory.crossover),
    )


def _start_shade(config: Config, length: int) -> History:
    half = jnp.full(config.population, 0.5, jnp.float32)  # as many memories as candidates, as in the paper
    return History(half, half, jnp.zeros((), jnp.int32), archives.empty(config.population, length))


def _propose_shade(
    key: Array, population: Array, score: Score, memory: History, config: Config, bounds: Bounds
) -> Trials:
    """current-to-pbest/1/bin with archive; F and CR of every trial drawn around a memory chosen at random."""
    slots, length = population.shape
    draws = jax.random.uniform(key, (8 + length, slots))
    chosen = below(draws[0], len(memory.scale))
    scale = cauchy_above_zero(draws[1], memory.scale[chosen])
    share = jnp.clip(memory.crossover[chosen] + SPREAD * normal(draws[2]), 0, 1)
    least = 2 / slots
    best_share = least + draws[3] * max(BEST_SHARE - least, 0.0)
    mutants = current_to_pbest(population, score, memory.archive, scale[:, None], best_share, draws[4:7])
    taken = crossed(share, draws[8:], draws[7])
    return Trials(cross(key, population, mutants, taken, config.repair, bounds), scale, share)


def _learn_shade(key: Array, memory: History, outcome: Outcome, config: Config) -> History:
    """Means of what succeeded, weighted by how much it gained, replace the oldest memory; losers are archived."""
    trials, weight = outcome.trials, outcome.gain / jnp.maximum(outcome.gain.sum(), 1e-30)
    squares, sums = jnp.vdot(weight, trials.scale**2), jnp.vdot(weight, trials.scale)
    any_success = (outcome.gain > 0).any()
    lehmer = jnp.where(any_success, squares / jnp.where(any_success, sums, 1), memory.scale[memory.place])
    mean = jnp.where(any_success, jnp.vdot(weight, trials.crossover), memory.crossover[memory.place])
    return History(
        memory.scale.at[memory.place].set(lehmer),
        memory.crossover.at[memory.place].set(mean),
        (memory.place + any_success) % len(memory.scale),
        archives.insert(key, memory.archive, outcome.parents, outcome.gain > 0),
    )


jde = Algorithm(_propose_jde, _start_jde, _learn_jde)
shade = Algorithm(_propose_shade, _start_shade, _learn_shade)


def cauchy_above_zero(uniform: Array, centre: Array) -> Array:
    """Cauchy draws of width SPREAD, drawn again while not positive (here: from that part alone), at most 1."""
    below = 0.5 + jnp.arctan(-centre / SPREAD) / jnp.pi
    share = below + (1 - below) * uniform
    drawn = centre + SPREAD * jnp.tan(jnp.pi * (share - 0.5))
    return jnp.clip(drawn, 1e-6, 1.0)


def normal(uniform: Array) -> Array:
    """Standard normal draws from uniforms in [0, 1)."""
    return jax.scipy.special.ndtri(jnp.clip(uniform, 1e-7, 1 - 1e-7))
