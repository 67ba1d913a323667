"""Batch statistics of a pruned network: a candidate is judged with its own, not with those of the dense net.

The running means and variances that a batch norm keeps are off as soon as weights before it are gone. One forward
pass in training mode over some examples gives the candidate's own. How a module mixes old and new statistics is found
by asking it twice, with zeros and with ones for the old of one leaf: the share of the old is how much the new differ.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.types import Array, Net, Tree

STAYS = 1 - 1e-6  # what keeps this share of the old is no running statistic


@flax.struct.dataclass
class Recalibration:
    """Inputs [R, ...], and for every leaf of the state the share of the old that one pass in training mode leaves.

    A share of 1 stands for what is no running statistic and stays as it is.
    """

    x: Tree
    old_share: Tree  # float32 scalars
    apply: Any = flax.struct.field(pytree_node=False)

    def __call__(self, params: Tree, state: Tree) -> Tree:
        """The state with running statistics as the inputs give them; whatever else it holds stays."""
        _, moved = self.apply(params, state, self.x, train=True, key=_key())

        def fresh(old: Array, new: Array, share: Array) -> Array:
            if not _is_statistic(old):
                return old
            moving = share < STAYS
            return jnp.where(moving, (new - share * old) / jnp.where(moving, 1 - share, 1), old)

        return jax.tree.map(fresh, state, moved, self.old_share)


def recalibration(net: Net, x: Tree) -> Recalibration | None:
    """For a net with running statistics, over the inputs ``x`` [R, ...]; None for one without."""
    leaves, structure = jax.tree.flatten(net.state)
    x = jax.tree.map(jnp.asarray, x)
    # of inputs without scale, so that the difference is not lost beside what the batch adds
    few = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:4]), x)
    shares = [_share(net, leaves, structure, place, few) for place in range(len(leaves))]
    if all(share == 1 for share in shares):
        return None
    return Recalibration(x, jax.tree.unflatten(structure, [jnp.float32(share) for share in shares]), net.apply)


def _share(net: Net, leaves: list[Any], structure: Any, place: int, x: Tree) -> float:
    """The share of the old in one leaf, if it is one and the same below 1 for all entries; else 1."""
    if not _is_statistic(leaves[place]):
        return 1.0

    def after(value: float) -> np.ndarray:
        changed = [jnp.full_like(leaf, value) if index == place else leaf for index, leaf in enumerate(leaves)]
        moved = _moved(net, jax.tree.unflatten(structure, changed), x)
        return np.asarray(jax.tree.leaves(moved)[place], np.float32)

    shares = after(1.0) - after(0.0)
    uniform = shares.size > 0 and np.ptp(shares) <= 1e-5 and 0 <= shares.flat[0] < STAYS
    return float(np.median(shares)) if uniform else 1.0


@jax.jit
def _moved(net: Net, state: Tree, x: Tree) -> Tree:
    return net.apply(net.params, state, x, train=True, key=_key())[1]


def _key() -> Array:
    """What is random in training mode, as dropout is, needs one; the same for all candidates."""
    return jax.random.key(0)


def _is_statistic(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and jnp.ndim(leaf) > 0
