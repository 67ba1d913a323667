"""Exact integers from float genomes: how many units each group keeps, under jit and for any size below 2**31."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.pruning import wide
from jax_prune.types import Array, Bounds

BISECTIONS = 40


def removed(ratio: ArrayLike, size: ArrayLike) -> Array:
    """floor(ratio * size) without rounding: int32; ``ratio`` float32 in [0, 1], 0 <= ``size`` < 2**31, any shape.

    The float's 24-bit mantissa is multiplied by the size in two 32-bit limbs: float32 products are
    off by 6 already at 1e8 units.
    """
    bits = jax.lax.bitcast_convert_type(jnp.asarray(ratio, jnp.float32), jnp.uint32)
    exponent = (bits >> 23) & 0xFF
    mantissa = (bits & 0x7FFFFF) | jnp.where(exponent > 0, 1 << 23, 0).astype(jnp.uint32)
    high, low = wide.product(mantissa, jnp.asarray(size).astype(jnp.uint32))
    shift = 150 - jnp.maximum(exponent, 1)  # ratio = mantissa * 2**-shift, and shift >= 23
    short = jnp.minimum(shift, 31)
    below = (low >> short) | (high << (32 - short))
    above = high >> jnp.minimum(jnp.maximum(shift, 32) - 32, 31)
    result = jnp.where(shift < 32, below, jnp.where(shift < 64, above, 0))
    return result.astype(jnp.int32)


def kept_count(ratio: ArrayLike, size: ArrayLike) -> Array:
    """Units that stay when the share ``ratio`` is removed: size - floor(ratio * size), exactly; int32."""
    return jnp.asarray(size).astype(jnp.int32) - removed(ratio, size)


def project(genome: Array, sizes: Sequence[int], budget: ArrayLike, bounds: Bounds) -> Array:
    """Kept counts int32 [G] that sum to ``budget`` exactly, in the proportions that a genome asks for.

    ``genome`` float32 [G] is the log of each group's wanted kept share, up to a common constant, which is found by
    bisection so that the counts, clipped to what the ``bounds`` of the ratios allow, meet the budget; what rounding
    leaves over goes to the group with most room. Genome, budget and bounds may be traced. The caller sees to it
    that the bounds can meet the budget, and that the sizes sum to less than 2**31.
    """
    size = jnp.asarray(np.asarray(sizes), jnp.int32)
    budget = jnp.asarray(budget, jnp.int32)
    lower, upper = kept_count(bounds.upper, size), kept_count(bounds.lower, size)
    amounts = scaled(genome, size, lower, upper, lambda amounts: amounts.sum() <= budget.astype(jnp.float32))
    # to the nearest: cut off, the genome of an allocation would not lead back to it
    kept = jnp.clip(jnp.round(amounts).astype(jnp.int32), lower, upper)
    return _settle(kept, lower, upper, budget)


def scaled(genome: Array, size: Array, lower: Array, upper: Array, fits: Callable[[Array], Array]) -> Array:
    """exp(genome + constant) * size float32 [G], clipped to int32 bounds, at the largest common constant that ``fits``.

    ``fits(amounts float32 [G]) -> bool`` holds at ``lower`` and stops holding as amounts grow.
    """
    log_share = genome + jnp.log(size.astype(jnp.float32))
    low, high = lower.astype(jnp.float32), upper.astype(jnp.float32)

    def amounts(constant: Array) -> Array:
        return jnp.clip(jnp.exp(log_share + constant), low, high)

    def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = interval
        middle = (left + right) / 2
        enough = fits(amounts(middle))
        return jnp.where(enough, middle, left), jnp.where(enough, right, middle)

    widest = jnp.max(jnp.abs(log_share)) + 23.0  # exp(23) > 2**31
    constant, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (-widest, widest))
    return amounts(constant)


def _settle(kept: Array, lower: Array, upper: Array, budget: Array) -> Array:
    """Adds or removes what is missing to the budget, the group with most room first."""
    missing = budget - kept.sum()
    room = jnp.where(missing > 0, upper - kept, kept - lower)
    order = jnp.argsort(-room, stable=True)
    before = jnp.cumsum(room[order]) - room[order]
    share = jnp.clip(jnp.abs(missing) - before, 0, room[order])
    return kept.at[order].add(jnp.sign(missing) * share)
