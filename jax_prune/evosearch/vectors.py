"""Vectors in a box: where a search starts, what brings vectors back inside, and who is whose partner."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.evosearch.slots import Held, everyone
from jax_prune.types import Array, Bounds

NEAR = 0.04  # chosen beside 0.1 on the networks of benchmarks/search_nets.py


def latin_hypercube(key: Array, population: int, bounds: Bounds) -> Array:
    """Uniform vectors [P, G] that fall in P different slices of every axis (McKay et al. 1979)."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    order, place = jax.random.uniform(key, (2, population, *width.shape))
    slices = jnp.argsort(order, axis=0)
    return inside(bounds.lower + (slices + place) / population * width, bounds)


def around(key: Array, vector: ArrayLike, count: int, bounds: Bounds) -> Array:
    """Vectors [count, G] near one [G]: every entry a normal step off, of ``NEAR`` of the box's width, and reflected.

    A search that begins with a good vector alone finds differences between its candidates too long to improve on it.
    """
    steps = jax.random.normal(key, (count, *np.shape(vector)))
    return reflect(jnp.asarray(vector) + NEAR * (jnp.asarray(bounds.upper) - bounds.lower) * steps, bounds)


def reflect(vectors: Array, bounds: Bounds) -> Array:
    """Folds what left the box back into it, as mirrors at both walls would: vectors [..., G]."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    span = jnp.where(width > 0, width, 1)
    turn = jnp.mod(vectors - bounds.lower, 2 * span)
    return inside(bounds.lower + jnp.minimum(turn, 2 * span - turn), bounds)


def inside(vectors: ArrayLike, bounds: Bounds) -> Array:
    """Clipped to the box."""
    return jnp.clip(vectors, bounds.lower, bounds.upper)


def resample(key: Array, vectors: Array, bounds: Bounds, held: Held | None = None) -> Array:
    """Every entry that left the box is drawn anew, uniformly, inside it; rows are the slots ``held``, or all."""
    held = everyone(len(vectors)) if held is None else held
    fresh = held.of(uniform(key, held.population, bounds))
    left = (vectors < bounds.lower) | (vectors > bounds.upper)
    return inside(jnp.where(left, fresh, vectors), bounds)


REPAIRS: dict[str, Callable[..., Array]] = {
    "reflect": lambda key, vectors, bounds, held=None: reflect(vectors, bounds),
    "clip": lambda key, vectors, bounds, held=None: inside(vectors, bounds),
    "resample": resample,
}


def uniform(key: Array, population: int, bounds: Bounds) -> Array:
    """Vectors [P, G] drawn uniformly from the box."""
    width = jnp.asarray(bounds.upper) - bounds.lower
    return inside(bounds.lower + jax.random.uniform(key, (population, *width.shape)) * width, bounds)


def below(uniform: Array, count: ArrayLike) -> Array:
    """Uniforms in [0, 1) as int32 from 0 to ``count`` - 1; a product rounded up to ``count`` is the last one."""
    return jnp.minimum((uniform * count).astype(jnp.int32), count - 1)


def distinct(uniform: Array, beyond: ArrayLike = 0, active: ArrayLike | None = None) -> Array:
    """For each of P slots K other slots, all different: uniforms [K, P] in [0, 1) to int32 [K, P].

    The k-th takes one of the P - 1 - k that are free and steps over the taken ones in ascending
    order: O(P) time and memory, where a permutation per slot would take O(P^2). The last one may also be one of
    ``beyond`` further slots, P and above, as of an archive; their number may be traced. With ``active`` (may be traced)
    only the first so many slots choose and are chosen; they count as P, and what the others read means nothing.
    """
    population = uniform.shape[1] if active is None else active
    ascending, chosen = [jnp.arange(uniform.shape[1], dtype=jnp.int32)], []
    for index, share in enumerate(uniform):
        last = index == len(uniform) - 1
        free = population - 1 - index + (jnp.asarray(beyond, jnp.int32) if last else 0)
        choice = below(share, free)
        for other in ascending:
            choice += choice >= other
        chosen.append(choice)
        ascending = _inserted(ascending, choice)
    return jnp.stack(chosen)


def _inserted(ascending: list[Array], new: Array) -> list[Array]:
    """The new entries put where they belong, slot by slot."""
    longer = []
    for other in ascending:
        longer.append(jnp.minimum(other, new))
        new = jnp.maximum(other, new)
    return [*longer, new]
