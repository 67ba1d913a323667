"""L-SHADE (Tanabe and Fukunaga 2014): SHADE whose population shrinks linearly with the evaluations used.

Settings are the paper's, apart from these: the first population is ``config.population``, not 18 G; vectors that
leave the box are brought back by ``config.repair``, not half-way to their parent; and the last generation evaluates
trials of the best few alone, so that a search evaluates exactly as many as with any other algorithm.

Arrays keep their shapes: the population is the best N of all P slots. Who drops out stays where he stood and can
never be among them again, since the others only get better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch import archive as archives
from jax_prune.evosearch.adaptive import SPREAD, cauchy_above_zero, normal
from jax_prune.evosearch.archive import Archive
from jax_prune.evosearch.proposal import Algorithm, Outcome, Trials, cross, crossed, current_to_pbest
from jax_prune.evosearch.score import Score, order
from jax_prune.evosearch.vectors import below
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

LEAST = 4  # N_min
MEMORIES = 6  # H
BEST_SHARE = 0.11  # p
ARCHIVE_RATE = 2.6  # r_arc: archived vectors for each of the population
TERMINAL = -1.0  # a memory of CR from which only 0 is drawn any more


class History(NamedTuple):
    """Successful means of F and CR, float32 [H], the one to replace next, the archive, and trial generations done."""

    scale: Array
    crossover: Array
    place: Array  # int32
    archive: Archive
    generation: Array  # int32


def populations(config: Config) -> tuple[int, ...]:
    """N of every generation, the initial one first: after a generation of trials linear in the evaluations used."""
    size = used = config.population
    numbers = [size]
    while used < config.evaluations:
        numbers.append(size)
        used += size
        size = round(config.population + (LEAST - config.population) * used / config.evaluations)  # equation 10
    return tuple(numbers)


def sizes(config: Config) -> tuple[int, ...]:
    """How many of them are evaluated: all, but in the last generation only what is left of ``config.evaluations``."""
    numbers = populations(config)
    return (*numbers[:-1], config.evaluations - sum(numbers[:-1]))


def room(active: Array | int) -> Array:
    """How many vectors the archive of ``active`` candidates holds: int32."""
    return jnp.round(ARCHIVE_RATE * active).astype(jnp.int32)


def _start(config: Config, length: int) -> History:
    half, zero = jnp.full(MEMORIES, 0.5, jnp.float32), jnp.zeros((), jnp.int32)
    return History(half, half, zero, archives.empty(int(room(config.population)), length), zero)


def _propose(key: Array, population: Array, score: Score, memory: History, config: Config, bounds: Bounds) -> Trials:
    """current-to-pbest/1/bin with archive among the best N; F and CR drawn around one of few memories."""
    slots, length = population.shape
    active, due = _planned(memory.generation, config)
    draws = jax.random.uniform(key, (7 + length, slots))
    chosen = below(draws[0], MEMORIES)
    scale = cauchy_above_zero(draws[1], memory.scale[chosen])
    centre = memory.crossover[chosen]
    share = jnp.where(centre == TERMINAL, 0, jnp.clip(centre + SPREAD * normal(draws[2]), 0, 1))
    archive = archives.shrunk(memory.archive, room(active))
    mutants = current_to_pbest(population, score, archive, scale[:, None], BEST_SHARE, draws[3:6], active)
    taken = crossed(share, draws[7:], draws[6])
    vectors = cross(key, population, mutants, taken, config.repair, bounds)
    asked = jnp.argsort(order(score)) < due
    return Trials(vectors, scale, share, asked)


def _learn(key: Array, memory: History, outcome: Outcome, config: Config) -> History:
    """Lehmer means of what succeeded, weighted by its gain, replace the oldest memory; losers are archived."""
    place, trials, success = memory.place, outcome.trials, outcome.gain > 0
    active, _ = _planned(memory.generation, config)
    scale = _lehmer(outcome.gain, trials.scale)
    ended = (memory.crossover[place] == TERMINAL) | (jnp.max(jnp.where(success, trials.crossover, 0)) == 0)
    share = jnp.where(ended, TERMINAL, _lehmer(outcome.gain, trials.crossover))
    archive = archives.shrunk(memory.archive, room(active))
    return History(
        memory.scale.at[place].set(jnp.where(success.any(), scale, memory.scale[place])),
        memory.crossover.at[place].set(jnp.where(success.any(), share, memory.crossover[place])),
        (place + success.any()) % MEMORIES,
        archives.insert(key, archive, outcome.parents, success, room(active)),
        memory.generation + 1,
    )


lshade = Algorithm(_propose, _start, _learn, sizes=sizes)


def _planned(generation: Array, config: Config) -> tuple[Array, Array]:
    """N of the next generation of trials, and how many of them are evaluated: none beyond the last."""
    numbers, due = populations(config), sizes(config)
    index = jnp.minimum(generation + 1, len(numbers))
    return jnp.asarray((*numbers, LEAST))[index], jnp.asarray((*due, 0))[index]


def _lehmer(weight: Array, values: Array) -> Array:
    """Weighted mean of squares over weighted mean; 0 where nothing has weight."""
    sums = jnp.vdot(weight, values)
    return jnp.vdot(weight, values**2) / jnp.where(sums > 0, sums, 1)
