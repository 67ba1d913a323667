"""Exact unsigned integers below 2**64 under jit, without 64-bit mode: two uint32 limbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.types import Array


class Wide(NamedTuple):
    """``high * 2**32 + low``, uint32 arrays of one shape; what leaves the range wraps, so keep sums below 2**64."""

    high: Array
    low: Array


def of(value: int) -> Wide:
    """A Python integer, 0 <= ``value`` < 2**64."""
    return Wide(jnp.asarray(value >> 32, jnp.uint32), jnp.asarray(value & 0xFFFFFFFF, jnp.uint32))


def product(left: ArrayLike, right: ArrayLike) -> Wide:
    """left * right, both uint32, from their 16-bit halves."""
    left, right = jnp.asarray(left, jnp.uint32), jnp.asarray(right, jnp.uint32)
    left_high, left_low = left >> 16, left & 0xFFFF
    right_high, right_low = right >> 16, right & 0xFFFF
    one = left_low * right_high + ((left_low * right_low) >> 16)  # below 2**32
    other = left_high * right_low + (one & 0xFFFF)
    return Wide(left_high * right_high + (one >> 16) + (other >> 16), left * right)


def add(left: Wide, right: Wide) -> Wide:
    """left + right; either may broadcast."""
    low = left.low + right.low
    return Wide(left.high + right.high + (low < right.low).astype(jnp.uint32), low)


def scaled(wide: Wide, factor: ArrayLike) -> Wide:
    """wide * factor, the factor uint32; either may broadcast."""
    low = product(wide.low, factor)
    return Wide(low.high + wide.high * jnp.asarray(factor, jnp.uint32), low.low)


def subtract(left: Wide, right: Wide) -> Wide:
    """left - right, where that is not negative."""
    return Wide(left.high - right.high - (left.low < right.low).astype(jnp.uint32), left.low - right.low)


def total(wide: Wide) -> Wide:
    """The sum over the last axis, of at most 2**16 entries."""
    return _summed(wide, lambda digits: digits.sum(axis=-1, dtype=jnp.uint32))


def totals(wide: Wide, owner: np.ndarray, owners: int) -> Wide:
    """The sums [owners] of the entries [N], N at most 2**16, that belong to each ``owner`` int [N]."""
    return _summed(wide, lambda digits: jax.ops.segment_sum(digits, owner, owners))


def _summed(wide: Wide, of: Callable[[Array], Array]) -> Wide:
    """Sums of 16-bit digits fit 32 bits; what is above a digit is carried."""
    digits, carry = [], jnp.uint32(0)
    for piece in [(limb >> shift) & 0xFFFF for limb in (wide.low, wide.high) for shift in (0, 16)]:
        column = of(piece) + carry
        digits.append(column & 0xFFFF)
        carry = column >> 16
    return Wide(digits[2] | (digits[3] << 16), digits[0] | (digits[1] << 16))


def at_most(left: Wide, right: Wide) -> Array:
    """left <= right: bool."""
    return (left.high < right.high) | ((left.high == right.high) & (left.low <= right.low))


def minimum(left: Wide, right: Wide) -> Wide:
    """The smaller one, entry by entry."""
    smaller = at_most(left, right)
    return Wide(jnp.where(smaller, left.high, right.high), jnp.where(smaller, left.low, right.low))


def to_numpy(wide: Wide) -> np.ndarray:
    """Values uint64 on the host, any shape."""
    return (np.asarray(wide.high, np.uint64) << np.uint64(32)) + np.asarray(wide.low, np.uint64)


def to_float(wide: Wide) -> Array:
    """float32, off by a few roundings: for what is compared, not counted."""
    return wide.high.astype(jnp.float32) * 2.0**32 + wide.low.astype(jnp.float32)
