"""Batch statistics of a pruned network: a candidate is judged with its own, not with those of the dense net.

The running means and variances that a batch norm keeps are off as soon as weights before it are gone. One forward
pass in training mode over some examples gives the candidate's own. How a module mixes old and new statistics is
found by asking it twice, with zeros and with ones for the old: whatever moves between is the share of the old.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jax_prune.types import Array, Net, Tree

STAYS = 1 - 1e-6  # a leaf that keeps this share of the old is no running statistic


@flax.struct.dataclass
class Recalibration:
    """Inputs [R, ...] and for every leaf of the state the share of the old that one pass in training mode leaves."""

    x: Tree
    old_share: Tree
    apply: Any = flax.struct.field(pytree_node=False)

    def __call__(self, params: Tree, state: Tree) -> Tree:
        """The state with running statistics as the inputs give them; whatever else it holds stays."""
        zeros = jax.tree.map(_like(0), state)
        _, moved = self.apply(params, zeros, self.x, train=True, key=None)

        def fresh(old: Array, new: Array, share: Array) -> Array:
            if not _is_float(old):
                return old
            return jnp.where(share < STAYS, new / jnp.where(share < STAYS, 1 - share, 1), old)

        return jax.tree.map(fresh, state, moved, self.old_share)


def recalibration(net: Net, x: Tree) -> Recalibration | None:
    """For a net with running statistics, over the inputs ``x`` [R, ...]; None for one without."""
    if not any(_is_float(leaf) for leaf in jax.tree.leaves(net.state)):
        return None
    x = jax.tree.map(jnp.asarray, x)
    shares = _old_shares(net, x)
    if all(bool((share >= STAYS).all()) for share in jax.tree.leaves(shares)):
        return None
    return Recalibration(x, shares, net.apply)


@jax.jit
def _old_shares(net: Net, x: Tree) -> Tree:
    def after(value: int) -> Tree:
        return net.apply(net.params, jax.tree.map(_like(value), net.state), x, train=True, key=None)[1]

    return jax.tree.map(lambda one, zero: (one - zero) if _is_float(one) else jnp.ones(()), after(1), after(0))


def _like(value: int) -> Any:
    return lambda leaf: jnp.full_like(leaf, value) if _is_float(leaf) else leaf


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
