"""L-SHADE (Tanabe and Fukunaga 2014): SHADE whose population shrinks linearly with the evaluations used.

Settings are the paper's, apart from these: the first population is ``config.population``, not 18 G; vectors that
leave the box are brought back by ``config.repair``, not half-way to their parent; and the last generation evaluates
trials of the best few alone, so that a search evaluates exactly as many as with any other algorithm.

The population is the best N of all P slots. Who drops out stays where he stood and can never be among them again,
since the others only get better. So arrays keep their shapes, or, where there are many slots, hold the best half alone
once those are enough, then the best quarter, and so on: what a slot draws does not depend on which others there are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch import archive as archives
from jax_prune.evosearch.adaptive import SPREAD, cauchy_above_zero, normal
from jax_prune.evosearch.archive import Archive
from jax_prune.evosearch.proposal import Algorithm, Outcome, Trials, cross, crossed, current_to_pbest
from jax_prune.evosearch.score import Score, order
from jax_prune.evosearch.slots import Held, everyone
from jax_prune.evosearch.vectors import below
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

LEAST = 4  # N_min
MEMORIES = 6  # H
BEST_SHARE = 0.11  # p
SMALLEST = 128  # slots that are not halved any more: below, another program costs more than it saves
DRAWS = 3  # folded into a generation's key for what slots draw
TERMINAL = -1.0  # a memory of CR from which only 0 is drawn any more


class History(NamedTuple):
    """Successful means of F and CR, float32 [H], the one to replace next, the archive, and trial generations done.

    ``slots`` int32 [S], ascending, are those of the P slots that arrays hold.
    """

    scale: Array
    crossover: Array
    place: Array  # int32
    archive: Archive
    generation: Array  # int32
    slots: Array


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


def room(active: Any) -> Any:
    """How many vectors the archive of ``active`` candidates holds: r_arc, 2.6, times as many, to the nearest."""
    return (13 * active + 2) // 5


def slots_needed(config: Config, generation: int) -> int:
    """P halved as often as leaves room for the population from this generation on, and for SMALLEST."""
    least, slots = max(populations(config)[generation], SMALLEST), config.population
    while slots // 2 >= least:
        slots //= 2
    return slots


def _start(config: Config, length: int) -> History:
    half, zero = jnp.full(MEMORIES, 0.5, jnp.float32), jnp.zeros((), jnp.int32)
    slots = everyone(config.population).slots
    return History(half, half, zero, archives.empty(room(config.population), length), zero, slots)


def _propose(key: Array, population: Array, score: Score, memory: History, config: Config, bounds: Bounds) -> Trials:
    """current-to-pbest/1/bin with archive among the best N; F and CR drawn around one of few memories."""
    length, held = population.shape[1], Held(memory.slots, config.population)
    active, due = _planned(memory.generation, config)
    draws = _draws(key, 4 + length, memory.slots)
    # gathered even where slots are all of them: else XLA works F out anew for every entry, and rounds it otherwise
    scale, share = (settings[memory.slots] for settings in _settings(key, memory, config.population))
    archive = archives.shrunk(memory.archive, room(active))
    ranking = order(score)
    chances = jnp.stack([draws[0], *draws[1:3, ranking]])  # those of a pair go by rank
    mutants = current_to_pbest(population, score, archive, scale[:, None], BEST_SHARE, chances, active)
    taken = crossed(share, draws[4:], draws[3])
    vectors = cross(key, population, mutants, taken, config.repair, bounds, held)
    asked = jnp.argsort(ranking) < due
    return Trials(vectors, scale, share, asked)


def _draws(key: Array, count: int, slots: Array) -> Array:
    """Uniforms [``count``, S], of every slot the same whichever others there are."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, DRAWS)))(slots)
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys).T


def _settings(key: Array, memory: History, population: int) -> tuple[Array, Array]:
    """F and CR float32 [P] of all slots."""
    draws = jax.random.uniform(key, (3, population))
    chosen = below(draws[0], MEMORIES)
    scale, centre = cauchy_above_zero(draws[1], memory.scale[chosen]), memory.crossover[chosen]
    share = jnp.where(centre == TERMINAL, 0, jnp.clip(centre + SPREAD * normal(draws[2]), 0, 1))
    return scale, share


def _learn(key: Array, memory: History, outcome: Outcome, config: Config) -> History:
    """Lehmer means of what succeeded, weighted by its gain, replace the oldest memory; losers are archived."""
    place, trials, success = memory.place, outcome.trials, outcome.gain > 0
    active, _ = _planned(memory.generation, config)
    held = Held(memory.slots, config.population)
    # sums over all slots, since fewer terms may be added in another order
    gain, scales, shares = (held.spread(values) for values in (outcome.gain, trials.scale, trials.crossover))
    scale = _lehmer(gain, scales)
    ended = (memory.crossover[place] == TERMINAL) | (jnp.max(jnp.where(success, trials.crossover, 0)) == 0)
    share = jnp.where(ended, TERMINAL, _lehmer(gain, shares))
    archive = archives.shrunk(memory.archive, room(active))
    return History(
        memory.scale.at[place].set(jnp.where(success.any(), scale, memory.scale[place])),
        memory.crossover.at[place].set(jnp.where(success.any(), share, memory.crossover[place])),
        (place + success.any()) % MEMORIES,
        archives.insert(key, archive, outcome.parents, success, room(active), room(config.population)),
        memory.generation + 1,
        memory.slots,
    )


def _narrowed(memory: History, slots: Array) -> History:
    return memory._replace(slots=slots, archive=archives.cut(memory.archive, room(len(slots))))


def _widened(memory: History, whole: History) -> History:
    held = memory.archive
    vectors = whole.archive.vectors.at[: len(held.vectors)].set(held.vectors)
    return memory._replace(slots=whole.slots, archive=Archive(vectors, held.filled))


lshade = Algorithm(_propose, _start, _learn, sizes=sizes, slots=slots_needed, narrowed=_narrowed, widened=_widened)


def _planned(generation: Array, config: Config) -> tuple[Array, Array]:
    """N of the next generation of trials, and how many of them are evaluated: none beyond the last."""
    numbers, due = populations(config), sizes(config)
    index = jnp.minimum(generation + 1, len(numbers))
    return jnp.asarray((*numbers, LEAST))[index], jnp.asarray((*due, 0))[index]


def _lehmer(weight: Array, values: Array) -> Array:
    """Weighted mean of squares over weighted mean; 0 where nothing has weight."""
    sums = jnp.vdot(weight, values)
    return jnp.vdot(weight, values**2) / jnp.where(sums > 0, sums, 1)
