"""What a group's step spends of the other limits rather than of the first: those with the highest toll give way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_prune.pruning import wide
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array


def differences(cost: Any, more: Array, less: Array) -> Array:
    """What counts int32 [V, G] cost ``more`` than others, row by row: float32 [V]."""

    def between(more: Array, less: Array) -> Array:
        return wide.to_float(wide.subtract(cost.total(more), cost.total(less)))

    return jax.vmap(between)(more, less)


def of(limits: Sequence[tuple[Any, Wide]], more: Array, less: Array) -> Array:
    """Float32 [V] from 0 to 1: the share of a step's spending that goes to the others, each by what it may spend.

    Of the other limits the one of which the step spends most counts. ``more`` and ``less`` are counts int32 [V, G]
    with and without the step.
    """
    first, *others = (differences(cost, more, less) / jnp.maximum(wide.to_float(most), 1) for cost, most in limits)
    other = jnp.stack(others).max(axis=0)
    return other / jnp.maximum(first + other, jnp.finfo(jnp.float32).tiny)
