"""What a network does to pixels first: uint8 to [0, 1], then each channel by its training set's mean and deviation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.types import Array


class Scaling(NamedTuple):
    """Mean and standard deviation of every colour channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


IMAGENET = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's
CIFAR10 = Scaling((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # of its 50,000 training images
HALVES = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # to [-1, 1]


def pixels(images: Array) -> Array:
    """uint8 to float32 in [0, 1]; floats unchanged."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def normalized(images: Array, scaling: Scaling, side: int | None = None) -> Array:
    """Images [B, H, W, C], uint8 or floats in [0, 1], less the mean, over the deviation: floats [B, H, W, C].

    Raises BadInput for another number of channels and, where ``side`` is given, for other than ``side`` x ``side``
    pixels.
    """
    channels = len(scaling.mean)
    if images.ndim != 4 or images.shape[-1] != channels or (side and images.shape[1:3] != (side, side)):
        pixels_taken = "H, W" if side is None else f"{side}, {side}"
        raise BadInput(
            f"this network takes images [B, {pixels_taken}, {channels}] and was given {list(images.shape)}: "
            "choose another network or data set, or build it with size="
        )
    x = pixels(images)
    return (x - np.asarray(scaling.mean, x.dtype)) / np.asarray(scaling.deviation, x.dtype)
