"""What was evaluated before: the same counts need no second evaluation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.evosearch.score import Score, worst
from jax_prune.types import Array

LANES = 3  # of 32 bits each: two of a million allocations share a mark with probability below 1e-16


class Seen(NamedTuple):
    """Marks uint32 [S, LANES] of allocations and their scores [S], of which the first ``filled`` (int32) are there."""

    marks: Array
    score: Score
    filled: Array


def empty(size: int) -> Seen:
    """Room for ``size`` allocations."""
    return Seen(jnp.zeros((size, LANES), jnp.uint32), worst(size), jnp.zeros((), jnp.int32))


def marks(kept: Array) -> Array:
    """A mark uint32 [P, LANES] of every row of counts int32 [P, G]: equal for equal rows."""
    odd = np.random.default_rng(0).integers(2**31, size=(LANES, kept.shape[1]), dtype=np.uint32) * 2 + 1
    mixed = _mixed(kept.astype(jnp.uint32)[:, None] * odd + odd[:, ::-1])
    return _mixed(jnp.sum(mixed * odd, axis=-1, dtype=jnp.uint32))


def look_up(seen: Seen, marked: Array) -> tuple[Score, Array]:
    """Scores [P] by marks, and whether they are known (bool [P])."""
    size = len(seen.marks)
    if not size:
        return worst(len(marked)), jnp.zeros(len(marked), bool)
    there = jnp.arange(size) < seen.filled
    first = jnp.where(there, seen.marks[:, 0], jnp.uint32(0xFFFFFFFF))
    order = jnp.argsort(first)
    place = order[jnp.minimum(jnp.searchsorted(first[order], marked[:, 0]), size - 1)]
    known = there[place] & (seen.marks[place] == marked).all(axis=1)
    return jax.tree.map(lambda part: part[place], seen.score), known


def insert(seen: Seen, marked: Array, score: Score, chosen: Array) -> Seen:
    """With the ``chosen`` (bool [P]) of these marks and scores; there is room for them."""
    size = len(seen.marks)
    place = jnp.where(chosen, seen.filled + jnp.cumsum(chosen) - 1, size)
    return Seen(
        seen.marks.at[place].set(marked, mode="drop"),
        jax.tree.map(lambda old, new: old.at[place].set(new, mode="drop"), seen.score, score),
        seen.filled + chosen.sum(dtype=jnp.int32),
    )


def _mixed(words: Array) -> Array:
    """Every bit depends on every bit below it, and then above (the finaliser of MurmurHash3)."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
