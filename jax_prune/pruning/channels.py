"""Where the units of a channel group sit along a leaf's axis."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.types import Array, Group, Slot


def is_channels(group: Group) -> bool:
    """Its units are positions along axes, not single entries."""
    return all(slot.axis is not None for slot in group.slots)


def positions(slot: Slot, size: int) -> np.ndarray:
    """int64 [n, S]: the positions of each of ``size`` = n units, one for each of the slot's S starts."""
    return np.asarray(slot.starts) + slot.step * np.arange(size)[:, None]


def along(slot: Slot, flags: ArrayLike, shape: Sequence[int]) -> Array:
    """``flags`` bool [n] of the units along the slot's axis of a leaf of ``shape``: broadcasts against the leaf."""
    assert slot.axis is not None
    flags = jnp.asarray(flags)
    line = jnp.ones(shape[slot.axis], bool).at[positions(slot, len(flags))].set(flags[:, None])
    return line.reshape([-1 if axis == slot.axis else 1 for axis in range(len(shape))])


def alive(mask: ArrayLike, slot: Slot, size: int) -> np.ndarray:
    """bool [n]: the units of which a leaf's mask keeps any entry."""
    entries: np.ndarray = np.asarray(mask)
    line = np.atleast_1d(entries.any(axis=tuple(axis for axis in range(entries.ndim) if axis != slot.axis)))
    return line[positions(slot, size)].any(axis=1) if len(line) > 1 else np.repeat(line, size)
