"""What a search holds between two generations, and how it begins."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.evosearch import arguments, seen
from jax_prune.evosearch.algorithms import find
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.racing import Summed
from jax_prune.evosearch.score import Score, worst
from jax_prune.evosearch.seen import Seen
from jax_prune.evosearch.vectors import inside, latin_hypercube
from jax_prune.types import Array, Bounds


class State(NamedTuple):
    """What the next generation needs: population float32 [P, G], its score [P], generations done (int32)."""

    population: Array
    score: Score
    best: Array  # [G], the best vector so far
    best_score: Score  # its scalars
    generation: Array
    memory: Any  # what the algorithm has learnt: a pytree of arrays
    seen: Seen  # what has been evaluated to its end
    losses: Array  # of the population's chunks [P, N] in a duel, else [P, 0]


def init(key: Array, config: Config, bounds: Bounds, start: ArrayLike | None = None) -> State:
    """A population as of ``begun``, not yet evaluated. Raises BadInput as that does."""
    population = begun(key, config, bounds, start)
    score = worst(config.population)
    best_score = jax.tree.map(lambda leaf: leaf[0], score)
    memory = find(config.algorithm).start(config, population.shape[1])
    remembered = seen.empty(config.evaluations if config.race == "exact" else 0)
    generation, no_losses = jnp.zeros((), jnp.int32), jnp.zeros((config.population, 0), jnp.float32)
    return State(population, score, population[0], best_score, generation, memory, remembered, no_losses)


def begun(key: Array, config: Config, bounds: Bounds, start: ArrayLike | None = None) -> Array:
    """A population [P, G] spread over the box (Latin hypercube).

    ``start`` [S, G], S <= P, are vectors to begin with in place of the first S; they are clipped to the box.
    Raises BadInput for bounds that cross, are not finite, or differ in shape, and for a start that does not
    fit.
    """
    box = arguments.box(bounds)
    population = _spread(key, config.population, box)
    return population if start is None else _started(population, arguments.floats(start, "start"), box)


def forgotten(state: State, config: Config, fitness: Summed) -> State:
    """The population without scores, to be judged by this fitness; in a duel with room for the losses of its chunks."""
    score = worst(len(state.population))
    chunks = fitness.chunk_count if config.race == "paired" else 0
    return state._replace(
        score=score,
        best_score=jax.tree.map(lambda leaf: leaf[0], score),
        seen=seen.empty(len(state.seen.marks)),
        losses=jnp.zeros((len(state.population), chunks), jnp.float32),
    )


def _started(population: Array, start: np.ndarray, bounds: Bounds) -> Array:
    if start.ndim != 2 or start.shape[1] != population.shape[1] or start.shape[0] > population.shape[0]:
        raise BadInput(f"start has shape {list(start.shape)}: give at most {list(population.shape)}, [S, G]")
    if not np.isfinite(start).all():
        raise BadInput("start holds NaN or infinite entries: give vectors inside the bounds")
    return population.at[: len(start)].set(inside(jnp.asarray(start), bounds))


_spread = jax.jit(latin_hypercube, static_argnames="population")
