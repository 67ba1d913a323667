"""What a channel is worth: one score [n_g] a unit, larger is kept.

A unit's makers are the output axes of the kernels that make it, their biases and its norms' parameters; its users the
input axes of the kernels that it goes into. Joined channels, as of a residual sum, have several of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import scores, units
from jax_prune.pruning.groups import leaf_at
from jax_prune.types import Array, Group, Slot, Tree

NORM_SCALE, BIAS = "scale", "bias"  # as Flax's norms and layers call them
EXPONENTS = (1, 2)


def magnitude(params: Tree, groups: Sequence[Group], exponent: int = 1) -> tuple[Array, ...]:
    """L1 or L2 norm of the kernels that make a unit (Li et al. 2017, section 3.1), over all joined ones: [n_g].

    Biases and norms do not count. Raises BadInput for a group that no kernel makes, and for other exponents.
    """
    _check_exponent(exponent)
    shapes = units.shapes_of(params)

    def of(group: Group) -> Array:
        makers = [slot for slot in units.slots(shapes, group) if _is_kernel(slot, shapes) and units.makes(slot, shapes)]
        if not makers:
            raise BadInput(f"group {group.name} has no kernel that makes its channels: score it by group_magnitude")
        return _powers(params, makers, group, exponent) ** (1 / exponent)

    return _scored(of, groups)


def group_magnitude(params: Tree, groups: Sequence[Group], exponent: int = 2) -> tuple[Array, ...]:
    """Sum of |w|**exponent over makers and users, biases aside, over the group's mean: [n_g], its mean 1.

    As Torch-Pruning's group magnitude importance (Fang et al. 2023, DepGraph) by its defaults: no root, norm scales in,
    mean over the group's layers, then over the group's mean.
    """
    _check_exponent(exponent)
    shapes = units.shapes_of(params)

    def of(group: Group) -> Array:
        counted = [slot for slot in units.slots(shapes, group) if not _is_bias(slot, shapes)]
        power = _powers(params, counted, group, exponent)
        return power / jnp.maximum(power.mean(), jnp.finfo(power.dtype).tiny)

    return _scored(of, groups)


def norm_scale(params: Tree, groups: Sequence[Group]) -> tuple[Array, ...]:
    """|gamma| of a unit's norms, their mean where there are several (Liu et al. 2017, Network Slimming): [n_g].

    Raises BadInput for a group without a norm, and names it.
    """
    shapes = units.shapes_of(params)

    def of(group: Group) -> Array:
        scales = [slot for slot in units.slots(shapes, group) if _is_norm_scale(slot, shapes)]
        if not scales:
            raise BadInput(
                f"group {group.name} has no norm, so its channels have no scale to score: choose another score, or "
                "leave the group out"
            )
        return _powers(params, scales, group, 1) / sum(len(slot.starts) for slot in scales)

    return _scored(of, groups)


def taylor(params: Tree, gradient: Tree, groups: Sequence[Group]) -> tuple[Array, ...]:
    """(sum of w g)**2 over a unit's gate (Molchanov et al. 2019, "Importance Estimation"): [n_g].

    That is the squared first-order change of the loss if the unit went. The gate is its norms' scales and biases where
    it has a norm that makes it, as the paper has it, else the kernels that make it and their biases. The paper averages
    over mini-batches after squaring: ``learning.mean_over_batches`` does.
    """
    shapes = units.shapes_of(params)

    def of(group: Group) -> Array:
        products = [
            units.summed(leaf_at(params, slot.path) * leaf_at(gradient, slot.path), slot, group.size)
            for slot in _gate(group, shapes)
        ]
        return jnp.stack(products).sum(axis=0) ** 2

    return _scored(of, groups)


def lamp(found: Sequence[Array]) -> tuple[Array, ...]:
    """Scores over the sum of those of their group that are no smaller (Lee et al. 2021, equation 2): [n_g], 1 the most.

    Of squared magnitudes, as ``group_magnitude`` gives them, this is LAMP with units for weights.
    """
    return tuple(_lamp(score) for score in found)


def random(key: Array, groups: Sequence[Group]) -> tuple[Array, ...]:
    """Uniform noise: the control that every score must beat. [n_g]."""
    return scores.random(key, groups)


def _lamp(score: Array) -> Array:
    order = jnp.argsort(score, stable=True)
    ascending = score[order]
    rest = jnp.cumsum(ascending[::-1])[::-1]
    return jnp.zeros_like(score).at[order].set(ascending / jnp.maximum(rest, jnp.finfo(score.dtype).tiny))


def _gate(group: Group, shapes: units.Shapes) -> list[Slot]:
    """Where a unit's output is scaled, all at once: behind its norm, or in the kernels that make it."""
    makers = [slot for slot in units.slots(shapes, group) if units.makes(slot, shapes)]
    norms = {slot.path.rpartition("/")[0] for slot in makers if _is_norm_scale(slot, shapes)}
    behind = [slot for slot in makers if norms and slot.path.rpartition("/")[0] in norms]
    if not makers:
        raise BadInput(f"group {group.name} has no kernel or norm that makes its channels: score it by group_magnitude")
    return behind or makers


def _powers(params: Tree, found: Sequence[Slot], group: Group, exponent: int) -> Array:
    """Sum of |w|**exponent over all entries of each unit: [n_g]."""
    each = [units.summed(jnp.abs(leaf_at(params, slot.path)) ** exponent, slot, group.size) for slot in found]
    return jnp.stack(each).sum(axis=0)


def _is_kernel(slot: Slot, shapes: units.Shapes) -> bool:
    return len(shapes[slot.path]) >= units.KERNEL_AXES


def _is_norm_scale(slot: Slot, shapes: units.Shapes) -> bool:
    return slot.path.rpartition("/")[2] == NORM_SCALE and not _is_kernel(slot, shapes)


def _is_bias(slot: Slot, shapes: units.Shapes) -> bool:
    return slot.path.rpartition("/")[2] == BIAS and not _is_kernel(slot, shapes)


def _check_exponent(exponent: int) -> None:
    if exponent not in EXPONENTS:
        raise BadInput(f"magnitudes have exponent 1 or 2, not {exponent}")


def _scored(of: Callable[[Group], Array], groups: Sequence[Group]) -> tuple[Array, ...]:
    """Raises BadInput for scores that are not finite, by group."""
    found = tuple(of(group) for group in groups)
    for score, group in zip(found, groups, strict=True):
        if not isinstance(score, jax.core.Tracer) and not np.isfinite(np.asarray(score)).all():
            raise BadInput(
                f"group {group.name} has NaN or infinite weights or gradients; train it again or load others"
            )
    return found
