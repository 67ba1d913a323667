"""Parents that lost their place: differences with them keep a search diverse (Zhang and Sanderson 2009, JADE)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jax_prune.types import Array


class Archive(NamedTuple):
    """``vectors`` float32 [A, G], of which the first ``filled`` (int32) hold something."""

    vectors: Array
    filled: Array


def empty(size: int, length: int) -> Archive:
    """Room for ``size`` vectors [G]."""
    return Archive(jnp.zeros((size, length), jnp.float32), jnp.zeros((), jnp.int32))


def insert(
    key: Array,
    archive: Archive,
    vectors: Array,
    chosen: Array,
    room: ArrayLike | None = None,
    largest: int | None = None,
) -> Archive:
    """The ``chosen`` (bool [P]) of ``vectors`` [P, G] put in; once full, each in the place of a random one.

    Full is ``room`` (may be traced), A where it is not given; no more than that may be chosen. Draws are those of an
    archive of the size ``largest``, by default A.
    """
    size = archive.vectors.shape[0]
    room = size if room is None else room
    draws = jax.random.uniform(key, (size if largest is None else largest,))[:size]
    number = jnp.cumsum(chosen) - 1
    free = archive.filled + number
    held = jnp.arange(size) < archive.filled
    shuffled = jnp.argsort(jnp.where(held, draws, 2))  # what is held already comes first
    replaced = shuffled[jnp.clip(free - room, 0, size - 1)]
    place = jnp.where(chosen, jnp.where(free < room, free, replaced), size)  # size: nowhere
    filled = jnp.minimum(archive.filled + chosen.sum(), room).astype(jnp.int32)
    return Archive(archive.vectors.at[place].set(vectors, mode="drop"), filled)


def shrunk(archive: Archive, room: ArrayLike) -> Archive:
    """The first ``room`` (may be traced) of what it holds."""
    return archive._replace(filled=jnp.minimum(archive.filled, room).astype(jnp.int32))


def cut(archive: Archive, size: int) -> Archive:
    """The first ``size`` places alone."""
    return shrunk(archive._replace(vectors=archive.vectors[:size]), size)
