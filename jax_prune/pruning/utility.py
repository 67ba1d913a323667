"""The channel utility of Dynamic Channel Propagation (Shen et al., ICPR 2020, arXiv 2007.01486), after its code.

All gated channels share one vector of utilities, here one array a layer. In every iteration the channels above a
quantile of it are active and pass on their activations; each then adds to its own utility what its activations
would have changed in the loss, relative to the best channel of its layer, and the active ones forget a part first.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.types import Array, Group

DECAY = 0.6  # of CIFAR-10 from scratch; 0.7 from a trained net


def start(groups: Sequence[Group]) -> tuple[Array, ...]:
    """Nothing is known yet: zeros float32 [n_g]."""
    return tuple(jnp.zeros(group.size) for group in groups)


def place(channels: int, rate: float) -> int:
    """Which of so many sorted utilities is the threshold when the share ``rate`` is to be pruned.

    Raises BadInput where no channel would be left.
    """
    number = round(channels * rate)
    if not 0 <= rate < 1 or number + 1 >= channels:
        raise BadInput(f"a prune rate of {rate} leaves none of {channels} channels: give less, 0 or more")
    return number


def active(utility: Sequence[Array], place: ArrayLike) -> tuple[Array, ...]:
    """Channels above the utility at ``place`` of all sorted ones: bool [n_g]. The threshold itself is not above."""
    threshold = jnp.sort(jnp.concatenate(list(utility)))[place]
    return tuple(own > threshold for own in utility)


def contribution(gates: Sequence[Array], slopes: Sequence[Array], positions: Sequence[int]) -> tuple[Array, ...]:
    """|sum over positions of g * a|, its mean over examples and positions, over the layer's largest: float32 [n_g].

    ``a`` are activations before the gate and g the loss's derivative by them, so that an inactive channel adds
    nothing. ``slopes`` [B, n_g] are the mean loss's derivatives by each example's gates, ``positions`` [G] the H * W
    of a layer. A layer without any slope adds nothing either; the code would divide by zero.
    """
    return tuple(map(_relative, gates, slopes, positions))


def updated(
    utility: Sequence[Array], active: Sequence[Array], contribution: Sequence[Array], decay: ArrayLike
) -> tuple[Array, ...]:
    """Active channels keep the share ``decay`` of their utility; all add their contribution."""
    triples = zip(utility, active, contribution, strict=True)
    return tuple(jnp.where(on, decay * own, own) + new for own, on, new in triples)


def decays(first: float, milestones: int) -> np.ndarray:
    """Decay before, between and after the learning rate's milestones, float32 [M + 1], as for ImageNet.

    0.1 more after each, and 1 after the last.
    """
    steps = [first + 0.1 * number for number in range(milestones)]
    return np.asarray([*steps, 1.0 if milestones else first], np.float32)


def _relative(gate: Array, slope: Array, positions: int) -> Array:
    value = jnp.abs(gate * slope).sum(0) / (slope.shape[0] * max(positions, 1))
    largest = value.max()
    return jnp.where(largest > 0, value / jnp.where(largest > 0, largest, 1), 0)
