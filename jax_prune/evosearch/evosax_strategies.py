"""The algorithms of the installed evosax, made for vectors [G] in the unit box: the one file that imports evosax.

A standard deviation starts at the initial population's where an algorithm adapts it (0.29 from nothing), and is
FIXED_STD where it does not; algorithms of
several populations (SV_CMA_ES, SV_Open_ES) have two, and a schedule in generations gets as many as the search has.
"""

from __future__ import annotations

import inspect
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.types import Array, Tree

PREFIX = "evosax"
LEAST_STD = 1e-3  # of an initial population that is all one vector
FIXED_STD = 0.1
POPULATIONS = 2


class Strategy(NamedTuple):
    """An instance of evosax, its parameters, and what kind it is; hashable by identity."""

    instance: Any
    params: Any
    by_rank: bool
    has_population: bool


def names() -> tuple[str, ...]:
    """The algorithms that the installed evosax has. Raises BadInput where there is none."""
    return tuple(_classes())


@lru_cache(maxsize=64)
def strategy_of(name: str, population: int, generations: int, length: int) -> Strategy:
    """One instance for all searches of these sizes: evosax compiles anew for every other one.

    Raises BadInput for a population that the algorithm cannot have.
    """
    with jax.ensure_compile_time_eval():  # it is kept, and must not hold tracers of the program being traced
        try:
            return _fitting(_classes()[name], population, generations, length)
        except AssertionError as error:
            fits = [size for size in range(population - 3, population + 4) if _fits(name, size, generations, length)]
            advice = f"give {' or '.join(map(str, fits))}" if fits else "no population near it fits either"
            reason = str(error).rstrip(".") or "it does not fit"
            raise BadInput(
                f"population {population}, {length} entries: evosax's {name} says: {reason}; {advice}"
            ) from error


def initial(strategy: Strategy, key: Array, unit: Array, fitness: Array) -> Tree:
    """evosax's state: from all of a population [P, G], or from its first vectors as means and its spread."""
    if strategy.has_population:
        return strategy.instance.init(key, unit, fitness, strategy.params)
    params = strategy.params
    if hasattr(params, "std_init"):
        params = params.replace(std_init=jnp.maximum(jnp.sqrt(jnp.var(unit, axis=0).mean()), LEAST_STD))
    several = hasattr(strategy.instance, "num_populations")
    return strategy.instance.init(key, unit[:POPULATIONS] if several else unit[0], params)


def _fits(name: str, population: int, generations: int, length: int) -> bool:
    try:
        return population >= 4 and bool(_fitting(_classes()[name], population, generations, length))
    except AssertionError:
        return False


def _fitting(kind: type, population: int, generations: int, length: int) -> Strategy:
    """Raises AssertionError where evosax does, or where it asks for another number of vectors."""
    accepted = inspect.signature(kind).parameters
    several = "num_populations" in accepted
    size = {"population_size": population // POPULATIONS, "num_populations": POPULATIONS}
    chosen: dict[str, Any] = size if several else {"population_size": population}
    if "std_schedule" in accepted:
        chosen["std_schedule"] = _fixed_std
    if "sampling_fn" in accepted:
        chosen["sampling_fn"] = partial(jax.random.uniform, shape=(length,))
    if "num_generations" in accepted:
        chosen["num_generations"] = generations + 1
    instance = kind(solution=jnp.zeros(length, jnp.float32), **chosen)
    params = instance.default_params
    shaping = accepted["fitness_shaping_fn"].default.__name__
    strategy = Strategy(instance, params, "identity" not in shaping, _has_population(kind))
    asked, _ = jax.eval_shape(
        lambda unit: instance.ask(jax.random.key(0), initial(strategy, jax.random.key(0), unit, unit[:, 0]), params),
        jax.ShapeDtypeStruct((population, length), jnp.float32),
    )
    assert asked.shape == (population, length), f"it asks for {asked.shape[0]} vectors"
    return strategy


@cache
def _classes() -> dict[str, type]:
    """By the name that evosax gives and by that of the class. Raises BadInput where evosax is not installed."""
    try:
        from evosax import algorithms
    except ImportError as error:
        raise BadInput(f"algorithms '{PREFIX}:NAME' need evosax ({error}): pip install evosax") from error
    return algorithms.algorithms | {kind.__name__: kind for kind in algorithms.algorithms.values()}


def _has_population(kind: type) -> bool:
    from evosax.algorithms.population_based.base import PopulationBasedAlgorithm

    return issubclass(kind, PopulationBasedAlgorithm)


def _fixed_std(step: Array) -> Array:
    return jnp.float32(FIXED_STD)
