"""Layer collapse: no path is left from the inputs to the outputs, so that these are the same for every example.

Pruning to the end of one layer does it (Tanaka et al. 2020), and so do kept entries that all sit where the layers
before or after have nothing. Seen from the data it needs no knowledge of the network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_prune.types import Array

ROUNDING = 1e-6  # of the largest output: equal rows of a matrix product may differ by this


def varies(outputs: Any) -> Array:
    """Whether outputs with leading axis B differ between examples, in any leaf: float32, 1 or 0; 1 for one example."""
    leaves = [jnp.asarray(leaf, jnp.float32) for leaf in jax.tree.leaves(outputs)]
    differ = [jnp.any(jnp.ptp(leaf, axis=0) > ROUNDING * jnp.max(jnp.abs(leaf))) for leaf in leaves]
    alone = leaves[0].shape[0] == 1
    return jnp.any(jnp.stack(differ)).astype(jnp.float32) if not alone else jnp.ones((), jnp.float32)
