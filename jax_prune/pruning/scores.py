"""What a connection is worth: one score an entry, larger is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning.groups import gather
from jax_prune.types import Array, Group, Tree


def magnitude(params: Tree, groups: Sequence[Group]) -> tuple[Array, ...]:
    """|w| of every entry: float32 [n_g] for each group (Han et al. 2015)."""
    return _checked(tuple(jnp.abs(gather(params, group)) for group in groups), groups)


def taylor(params: Tree, gradient: Tree, groups: Sequence[Group]) -> tuple[Array, ...]:
    """|w * g|, the loss's first-order change if an entry went (Molchanov et al. 2017): float32 [n_g]."""
    pairs = [(gather(params, group), gather(gradient, group)) for group in groups]
    return _checked(tuple(jnp.abs(weight * slope) for weight, slope in pairs), groups)


def fisher(params: Tree, square: Tree, groups: Sequence[Group]) -> tuple[Array, ...]:
    """|w| * sqrt(E[g**2]), the root of Fisher pruning's saliency (Theis et al. 2018): float32 [n_g].

    ``square`` is the mean squared gradient at the pruned net, so a connection that no longer reaches the output
    scores zero, however large its weight has stayed.
    """
    return _checked(_fisher(params, square, tuple(groups)), groups)


@partial(jax.jit, static_argnums=2)
def _fisher(params: Tree, square: Tree, groups: tuple[Group, ...]) -> tuple[Array, ...]:
    pairs = [(gather(params, group), gather(square, group)) for group in groups]
    return tuple(jnp.abs(weight) * jnp.sqrt(mean) for weight, mean in pairs)


def random(key: Array, groups: Sequence[Group]) -> tuple[Array, ...]:
    """Uniform noise: the control that every score must beat. Float32 [n_g]."""
    return tuple(
        jax.random.uniform(jax.random.fold_in(key, index), (group.size,)) for index, group in enumerate(groups)
    )


def _checked(scores: tuple[Array, ...], groups: Sequence[Group]) -> tuple[Array, ...]:
    for score, group in zip(scores, groups, strict=True):
        if not isinstance(score, jax.core.Tracer) and not np.isfinite(np.asarray(score)).all():
            raise BadInput(
                f"layer {group.name} has NaN or infinite weights or gradients; train it again or load others"
            )
    return scores
