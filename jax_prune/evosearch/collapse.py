"""Layer collapse: no path is left from the inputs to the outputs, so that these are the same for every example.

Pruning to the end of one layer does it (Tanaka et al. 2020), and so do kept entries that all sit where the layers
before or after have nothing. Seen from the data it needs no knowledge of the network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_prune.types import Array

ROUNDING = 1e-6  # of an output: equal rows of a matrix product may differ by this


def differs(outputs: Any, reference: Any) -> Array:
    """Whether any example's outputs [b, ...] differ from those of one other, [1, ...]: float32, 1 or 0.

    Leaves without the examples' axis tell nothing, and nor do entries that are not finite; 1 where nothing tells.
    """
    pairs = [(jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32))
             for one, other in zip(jax.tree.leaves(outputs), jax.tree.leaves(reference), strict=True)
             if jnp.ndim(one) and jnp.shape(other) == (1, *jnp.shape(one)[1:])]  # fmt: skip
    if not pairs:
        return jnp.ones((), jnp.float32)
    apart = [jnp.any(jnp.abs(one - other) > ROUNDING * jnp.maximum(jnp.abs(one), jnp.abs(other)))
             for one, other in pairs]  # fmt: skip
    return jnp.any(jnp.stack(apart)).astype(jnp.float32)
