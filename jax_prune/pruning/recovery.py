"""How removed connections return while a net is tuned (after DNS, Guo et al. 2016, and OLMP, Li et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.pruning import masks as masking
from jax_prune.pruning.groups import gather
from jax_prune.types import Array, Group, Masks, Tree

PRUNE_BELOW, RETURN_ABOVE = 0.9, 1.1  # of the threshold; the band between is hysteresis


def thresholds(params: Tree, groups: Sequence[Group], kept: Array) -> Array:
    """The kept[g]-th largest |w| of every group: float32 [G]; NaN where a pattern decides, which needs none."""

    def threshold(group: Group, count: Array) -> Array:
        if group.pattern is not None:
            return jnp.full((), jnp.nan, jnp.float32)
        return jnp.sort(jnp.abs(gather(params, group)))[::-1][jnp.maximum(count - 1, 0)]

    return jnp.stack([threshold(group, kept[index]) for index, group in enumerate(groups)])


def hysteresis(
    key: Array, params: Tree, masks: Masks, groups: Sequence[Group], thresholds: Array, probability: Array
) -> Masks:
    """A kept entry with |w| <= 0.9 t is removed, a removed one with |w| > 1.1 t returns.

    ``params`` are dense: removed entries have latent values. Group g changes with ``probability`` ([G] or
    scalar), which the caller lets fall as (1 + gamma * iteration) ** -1. A group with a pattern keeps as many as
    before, the largest that fit it.
    """
    changes = jax.random.uniform(key, (len(groups),)) < probability
    flags = []
    for index, group in enumerate(groups):
        size, before = jnp.abs(gather(params, group)), gather(masks, group)
        if group.pattern is not None:
            after = best(size, before.sum(), group)
        else:
            after = _across_the_band(size, before, thresholds[index])
        flags.append(jnp.where(changes[index], after, before))
    return masking.scatter(masks, params, groups, flags)


def reselect(params: Tree, scores: Sequence[Array], groups: Sequence[Group], kept: Array) -> Masks:
    """Exactly the ``kept[g]`` best scores [n_g] of every group, as ``masks.ranks`` orders them; may be traced."""
    flags = [best(score, kept[index], group) for index, (score, group) in enumerate(zip(scores, groups, strict=True))]
    return masking.scatter(masking.full(params), params, groups, flags)


def best(score: Array, kept: Array, group: Group) -> Array:
    """The mask bool [n] of a group's ``kept`` best scores [n] that fit its pattern."""
    if group.pattern is None:
        return masking.strongest(score, kept)
    return masking.rank(score, group.pattern) >= group.size - kept


def _across_the_band(size: Array, before: Array, threshold: Array) -> Array:
    return jnp.where(before, size > PRUNE_BELOW * threshold, size > RETURN_ABOVE * threshold)


def returned(before: Masks, after: Masks, groups: Sequence[Group]) -> np.ndarray:
    """Entries removed before and kept after: int64 [G]."""
    pairs = [(np.asarray(gather(before, group)), np.asarray(gather(after, group))) for group in groups]
    return np.asarray([int((~old & new).sum()) for old, new in pairs], np.int64)
