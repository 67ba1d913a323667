"""On which examples a generation is judged, and in which order: those that decide soonest first, or at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.evosearch import fidelity
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.duel import FIRST_LOOK
from jax_prune.evosearch.evaluation import Fitness
from jax_prune.evosearch.racing import Summed
from jax_prune.evosearch.score import Score, index_of_best
from jax_prune.types import Array

if TYPE_CHECKING:
    from jax_prune.evosearch.record import Info

SHUFFLE = 2  # folded into the initial key for the order of examples where a part stands for all of them


def ordered(key: Array, config: Config, fitness: Fitness) -> Fitness:
    """The fitness with its examples in random order where chunks are to stand for all: in duels, and in shares.

    Raises BadInput for a fitness that a search by ``config`` cannot judge by part of its examples.
    """
    if not isinstance(fitness, Summed):
        if config.fidelity != fidelity.WHOLE:
            raise BadInput("fidelity takes a fitness that is a sum over chunks, racing.Summed: give fidelity=(1.0,)")
        return fitness
    fidelity.chunks(config.fidelity, fitness.chunk_count)
    if config.race == "paired" and not fitness.is_mean:
        raise BadInput("paired races compare mean losses, and this fitness is more than one: search with race='exact'")
    check_duels(config, fitness.chunk_count)
    if config.race != "paired" and config.fidelity == fidelity.WHOLE:
        return fitness
    return _shuffle(jax.random.fold_in(key, SHUFFLE), fitness)


def check_duels(config: Config, chunks: int) -> None:
    """Raises BadInput for paired races over so few chunks that none could end early."""
    if config.race == "paired" and chunks <= FIRST_LOOK:
        raise BadInput(
            f"paired races look after {FIRST_LOOK} chunks first, and there are {chunks}: give more examples, or "
            "race=exact"
        )


def at(config: Config, fitness: Fitness, row: int, info: Info | None = None) -> Fitness:
    """Of an ``ordered`` fitness what the generation ``row`` is judged by; ``info`` [T, ...] holds all before it.

    A population is scored on the first chunks of its share as they are. From the row after it on those examples come
    first on which the best of it loses most, but for duels. Raises BadInput where losses let no race end early.
    """
    if not isinstance(fitness, Summed):
        return fitness
    start = fidelity.start_of(config.starts, row)
    count = fidelity.chunks(config.fidelity, fitness.chunk_count)[config.starts.index(start)]
    part = fitness if count == fitness.chunk_count else fitness.shortened(count)
    if row == start:
        return part
    assert info is not None
    best = index_of_best(Score(*(jnp.asarray(values[start]) for values in info.score)))
    arranged, sound = _arrange(part, jnp.asarray(info.vectors[start][best]))
    if config.race != "none" and not bool(sound):
        raise BadInput(
            "a loss is negative or a metric above 1, so no trial has lost for certain before its end: give race='none'"
        )
    return part if config.race == "paired" else arranged


def copies(config: Config) -> int:
    """How many copies of the data, beside the fitness's own, a search holds at most: sorted, and in random order."""
    return 1 if config.race != "paired" and config.fidelity == fidelity.WHOLE else 2


@jax.jit
def _shuffle(key: Array, fitness: Summed) -> Summed:
    return fitness.shuffled(key)


@jax.jit
def _arrange(fitness: Summed, best: Array) -> tuple[Summed, Array]:
    return fitness.arranged(fitness.kept(best))
