"""What every row of the table of algorithms is made of: trials, outcomes, and the crossing that makes a trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch.archive import Archive
from jax_prune.evosearch.score import Score, order
from jax_prune.evosearch.slots import Held
from jax_prune.evosearch.vectors import REPAIRS, below, distinct
from jax_prune.types import Array, Bounds

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

REPAIR = 2  # folded into a generation's key for what a repair draws


class Trials(NamedTuple):
    """Vectors float32 [P, G] inside the box, and the F and CR, float32 [P], that made them."""

    vectors: Array
    scale: Array
    crossover: Array
    asked: Array | None = None  # bool [P]: those to evaluate, where not all; slots may be out of use
    carried: Any = ()  # what ``learn`` needs of how they were made: a pytree of arrays


class Outcome(NamedTuple):
    """What a generation came to, slot by slot."""

    trials: Trials
    parents: Array  # [P, G]
    accepted: Array  # bool [P]: the trial is at least as good and takes its parent's place
    gain: Array  # float32 [P]: by how much it is better, 0 where it is not
    score: Score  # [P] of the vectors evaluated: the trials, in generation 0 the parents
    bounds: Bounds


class Algorithm(NamedTuple):
    """One row of the table; ``memory`` is any pytree of arrays, of one shape throughout a search.

    ``begin`` sees generation 0, the initial candidates, ``learn`` all that follow. ``sizes``: how many candidates each
    generation evaluates, known beforehand. Without ``pairwise`` the algorithm itself reads all scores, not only who
    replaced its parent, and so no trial is decided early. ``slots``: how many of the P slots arrays hold from a
    generation on, the others being out of use for good; ``narrowed`` is the memory at slots int32 [S] alone,
    ``widened`` such a one for all slots again, given the one that was narrowed.
    """

    propose: Callable[[Array, Array, Score, Any, Config, Bounds], Trials]
    start: Callable[[Config, int], Any] = lambda config, length: ()
    learn: Callable[[Array, Any, Outcome, Config], Any] = lambda key, memory, outcome, config: memory
    begin: Callable[[Array, Any, Outcome, Config], Any] = lambda key, memory, outcome, config: memory
    sizes: Callable[[Config], tuple[int, ...]] = lambda config: (config.population,) * (config.generations + 1)
    pairwise: bool = True
    slots: Callable[[Config, int], int] = lambda config, generation: config.population
    narrowed: Callable[[Any, Array], Any] = lambda memory, slots: memory
    widened: Callable[[Any, Any], Any] = lambda memory, whole: memory

    def forgets_scores(self, config: Config) -> bool:
        """Whether what it has learnt stays good once candidates are scored on other data."""
        return self.pairwise and len(set(self.sizes(config))) == 1


def crossed(share: Array, draws: Array, sure: Array) -> Array:
    """Which entries come from the mutant: bool [P, G], at least one a trial.

    ``share`` CR [P]; ``draws`` [G, P] and ``sure`` [P] are uniforms in [0, 1).
    """
    length = draws.shape[0]
    return (draws < share).T | (below(sure, length)[:, None] == jnp.arange(length))


def cross(
    key: Array, parents: Array, mutants: Array, taken: Array, repair: str, bounds: Bounds, held: Held | None = None
) -> Array:
    """Parents [P, G] with the entries ``taken`` from mutants that were brought back into the box.

    They are the slots ``held``, by default all.
    """
    return jnp.where(taken, REPAIRS[repair](jax.random.fold_in(key, REPAIR), mutants, bounds, held), parents)


def leaders(ranking: Array, draws: Array, share: Array | float, active: Array | None = None) -> Array:
    """One of the best for every slot: the first ``share`` of a ranking int [P], two at least, by uniforms [P].

    The share is of the first ``active`` (int32) where that is given.
    """
    population = ranking.shape[0] if active is None else active
    few = jnp.clip(jnp.asarray(share) * population, 2, population)
    return ranking[jnp.minimum((draws * few).astype(jnp.int32), population - 1)]


def current_to_pbest(
    population: Array,
    score: Score,
    archive: Archive,
    scale: Array,
    share: Array | float,
    draws: Array,
    active: Array | None = None,
) -> Array:
    """Mutants x + F (p - x) + F (b - c) [P, G]: p one of the best ``share``, c of population or archive.

    ``scale`` F is [P, 1]; ``draws`` [3, P] are uniforms in [0, 1) (Zhang and Sanderson 2009, JADE). Where ``active``
    (int32, at least 3) is given, the population is that many best ones, wherever they stand.
    """
    ranking = order(score)
    towards = population[leaders(ranking, draws[0], share, active)] - population
    if active is None:
        second, third = distinct(draws[1:], beyond=archive.filled)
    else:
        second, third = _ranked_partners(ranking, draws[1:], archive.filled, active)
    difference = population[second] - jnp.concatenate([population, archive.vectors])[third]
    return population + scale * (towards + difference)


def _ranked_partners(ranking: Array, draws: Array, archived: Array, active: Array) -> tuple[Array, Array]:
    """``distinct`` partners [P] among the first ``active`` of a ranking; the second may be P + an archive's index."""
    second, third = distinct(draws, archived, active)[:, jnp.argsort(ranking)]
    of_population = ranking[jnp.minimum(third, active - 1)]
    return ranking[second], jnp.where(third < active, of_population, third - active + len(ranking))
