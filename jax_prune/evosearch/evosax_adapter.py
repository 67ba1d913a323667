"""Any algorithm of evosax as a row of the table: ``Config(algorithm="evosax:CMA_ES")``.

evosax searches the unit box here, whatever the box of the search. What it asks for is brought back into the box by
``config.repair`` before it is evaluated, and those repaired vectors are what it is told. It begins when generation 0
has been scored: algorithms with a population start from all of it, those with a distribution from its best, with a
standard deviation (``evosax_strategies``); all else is as evosax has it.

evosax wants one number where we have a Score. An algorithm that shapes fitness by ranks is told the rank within the
generation, which keeps the order exactly. The others compare with earlier generations or read differences; they are
told the value where a candidate is feasible, a number above all of those, growing with the violation, where it is not,
and a still greater finite one where there is no score.
"""

from __future__ import annotations

import difflib
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.evosearch.evosax_strategies import initial, names, strategy_of
from jax_prune.evosearch.proposal import REPAIR, Algorithm, Outcome, Trials
from jax_prune.evosearch.score import Score, finite, order
from jax_prune.evosearch.vectors import REPAIRS, inside, uniform
from jax_prune.types import Array, Bounds, Tree

if TYPE_CHECKING:
    from jax_prune.evosearch.config import Config

GREATEST = 1e9  # feasible values are told as they are up to here
MOST_VIOLATED = 1e6
FAILED = 2 * GREATEST * MOST_VIOLATED  # its square is still finite in float32


class Asked(NamedTuple):
    """The state of evosax after it asked, and what it asked for, repaired: float32 [P, G] in the unit box."""

    state: Tree
    unit: Array


@cache
def row(name: str) -> Algorithm:
    """The row of one of ``names``. Raises BadInput for another, and where evosax is not installed."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), 3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names())}"
        raise BadInput(f"evosax has no algorithm '{name}': {hint}")
    own = (_start, _propose, _begin, _learn)
    start, propose, begin, learn = (partial(function, name) for function in own)
    return Algorithm(propose, start, learn, begin, pairwise=False)


def told(score: Score, by_rank: bool) -> Array:
    """The one number float32 [P] for evosax, lower is better, all finite."""
    if by_rank:
        return _ranks(score)
    value = jnp.clip(score.value, -GREATEST, GREATEST)
    violated = GREATEST * (1 + jnp.minimum(score.violation, MOST_VIOLATED))
    return jnp.where(finite(score), jnp.where(score.violation > 0, violated, value), FAILED)


def _start(name: str, config: Config, length: int) -> Tree:
    """A state of the right shapes; ``_begin`` makes the one that counts."""
    nowhere = jnp.zeros((config.population, length), jnp.float32)
    state = initial(
        strategy_of(name, config.population, config.generations, length),
        jax.random.key(0),
        nowhere,
        jnp.zeros(config.population),
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)


def _propose(
    name: str, key: Array, population: Array, score: Score, memory: Tree, config: Config, bounds: Bounds
) -> Trials:
    strategy = strategy_of(name, config.population, config.generations, population.shape[1])
    asked, state = strategy.instance.ask(key, memory, strategy.params)
    unit = _repaired(jax.random.fold_in(key, REPAIR), asked, config.repair)
    nothing = jnp.zeros(len(population), jnp.float32)
    return Trials(_genomes(unit, bounds), nothing, nothing, carried=Asked(_like(memory, state), unit))


def _begin(name: str, key: Array, memory: Tree, outcome: Outcome, config: Config) -> Tree:
    """The state after generation 0."""
    strategy = strategy_of(name, config.population, config.generations, outcome.parents.shape[1])
    unit = _unit(outcome.parents, outcome.bounds)
    ranking = order(outcome.score)
    if not strategy.has_population:
        return _like(memory, initial(strategy, key, unit[ranking], outcome.score.value))
    return _like(memory, initial(strategy, key, unit, told(outcome.score, strategy.by_rank)))


def _learn(name: str, key: Array, memory: Tree, outcome: Outcome, config: Config) -> Tree:
    strategy = strategy_of(name, config.population, config.generations, outcome.parents.shape[1])
    state, unit = outcome.trials.carried
    fitness = told(outcome.score, strategy.by_rank)
    learnt, _ = strategy.instance.tell(key, unit, fitness, state, strategy.params)
    return _like(memory, learnt)


def _repaired(key: Array, asked: Array, repair: str) -> Array:
    """Back in the unit box; what is not even a number is drawn anew."""
    box = Bounds(jnp.zeros(asked.shape[1], jnp.float32), jnp.ones(asked.shape[1], jnp.float32))
    numbers = jnp.where(jnp.isfinite(asked), asked, uniform(key, len(asked), box))
    return REPAIRS[repair](jax.random.fold_in(key, REPAIR), numbers, box)


def _genomes(unit: Array, bounds: Bounds) -> Array:
    return inside(bounds.lower + unit * (jnp.asarray(bounds.upper) - bounds.lower), bounds)


def _unit(genomes: Array, bounds: Bounds) -> Array:
    width = jnp.asarray(bounds.upper) - bounds.lower
    return jnp.clip((genomes - bounds.lower) / jnp.where(width > 0, width, 1), 0, 1)


def _ranks(score: Score) -> Array:
    """Ranks float32 [P] from -0.5, the best, to at most 0.5; equals share one."""
    ranking = order(score)
    ascending = jax.tree.map(lambda part: part[ranking], score)
    differs = (ascending.value[1:] != ascending.value[:-1]) | (ascending.violation[1:] != ascending.violation[:-1])
    dense = jnp.zeros(len(ranking), jnp.float32).at[ranking[1:]].set(jnp.cumsum(differs))
    return dense / (len(ranking) - 1) - 0.5


def _like(old: Tree, new: Tree) -> Tree:
    """With the types that it had: strong ones, so that the program is compiled once."""
    return jax.tree.map(lambda before, after: jnp.asarray(after, before.dtype), old, new)
