"""Slots of a population that shrinks: those that will never be used again leave the arrays, at a few static sizes.

What is left finds what all slots together would, bit for bit: sums, draws and races see every slot where it stood.
(Fewer candidates of a plain function at once are another program, which XLA may round otherwise.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch.score import Score, order
from jax_prune.types import Array

if TYPE_CHECKING:
    from jax_prune.evosearch.proposal import Algorithm
    from jax_prune.evosearch.state import State


class Held(NamedTuple):
    """Which slots arrays [S, ...] hold, int32 [S] in ascending order, of how many."""

    slots: Array
    population: int

    @property
    def all(self) -> bool:
        return len(self.slots) == self.population

    def of(self, values: Array) -> Array:
        """Values [P, ...] of these slots: [S, ...]."""
        return values if self.all else values[self.slots]

    def spread(self, values: Array, fill: float | bool = 0) -> Array:
        """Values [S, ...] at their slots among all: [P, ...], with ``fill`` elsewhere."""
        if self.all:
            return values
        return jnp.full((self.population, *values.shape[1:]), fill, values.dtype).at[self.slots].set(values)


def everyone(population: int) -> Held:
    """All slots."""
    return Held(jnp.arange(population, dtype=jnp.int32), population)


def best(score: Score, count: int) -> Held:
    """Where the best ``count`` of a score [P] stand."""
    population = len(score.value)
    if count == population:
        return everyone(population)
    return Held(jnp.sort(order(score)[:count]).astype(jnp.int32), population)


def narrowed(state: State, held: Held, algorithm: Algorithm) -> State:
    """The state with these slots alone; what evaluation remembers stays whole."""
    if held.all:
        return state
    population, score = jax.tree.map(held.of, (state.population, state.score))
    return state._replace(population=population, score=score, memory=algorithm.narrowed(state.memory, held.slots))


def widened(part: State, whole: State, held: Held, algorithm: Algorithm) -> State:
    """A narrowed state with all slots again: those that it left out as they were in the ``whole`` one."""
    if held.all:
        return part
    population, score = jax.tree.map(
        lambda all_, some: all_.at[held.slots].set(some), (whole.population, whole.score), (part.population, part.score)
    )
    return part._replace(population=population, score=score, memory=algorithm.widened(part.memory, whole.memory))
