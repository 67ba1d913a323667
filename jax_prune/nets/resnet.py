"""Residual networks (He, Zhang, Ren & Sun 2016, arXiv 1512.03385): for ImageNet as torchvision has them, for CIFAR-10.

ResNet-50 has its strides in the 3x3 convolutions, as torchvision's weights do, the paper in the 1x1 before; the counts
are the same. Initial kernels are He et al.'s.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.errors import BadInput
from jax_prune.nets.layers import LIST, convolution, normalization, scaled
from jax_prune.nets.lowering import max_pool
from jax_prune.nets.pixels import CIFAR10, IMAGENET, Scaling, normalized
from jax_prune.types import Array

CIFAR = {"num_classes": 10, "channels": (16, 32, 64), "shortcut": "A", "scaling": CIFAR10}


class Projection(nnx.Module):
    """A shortcut that changes size (option B of the paper): a 1x1 convolution and its normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.conv = convolution(inputs, outputs, 1, stride=stride, rngs=rngs)
        self.norm = normalization(outputs)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.conv(x))


class Block(nnx.Module):
    """Convolutions, each normalised, beside a shortcut: 3x3 and 3x3 or, as a bottleneck, 1x1, 3x3 and 1x1.

    Option A's shortcut, where it changes size, takes every ``stride``-th pixel and appends channels of zeros.
    """

    expansion = 4  # of a bottleneck's output

    def __init__(
        self, inputs: int, channels: int, stride: int, *, bottleneck: bool, shortcut: Literal["A", "B"], rngs: nnx.Rngs
    ):
        self.stride = stride
        outputs = channels * self.expansion if bottleneck else channels
        windows = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        counts = [inputs, *[channels] * (len(windows) - 1), outputs]
        self.depth = len(windows)
        for i, (size, step) in enumerate(windows):
            setattr(self, f"conv{i + 1}", convolution(counts[i], counts[i + 1], size, stride=step, rngs=rngs))
            setattr(self, f"bn{i + 1}", normalization(counts[i + 1]))
        changes = stride > 1 or inputs != outputs
        self.shortcut = Projection(inputs, outputs, stride, rngs=rngs) if changes and shortcut == "B" else None

    def __call__(self, x: Array) -> Array:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = jax.nn.relu(y) if i < self.depth else y
        return jax.nn.relu(y + (self.shortcut(x) if self.shortcut else _padded(x, self.stride, y.shape[-1])))


class ResNet(nnx.Module):
    """conv1, stages layer1 ... of blocks, the mean over all pixels, fc.

    ResNet-18 and 50 have 11,689,512 and 25,557,032 parameters; for CIFAR-10 ResNet-20 and 56 have 269,722 and 853,018
    with option A, as published, 272,474 and 855,770 with option B. ``width`` scales all channels. Three stages make the
    network for small images: a 3x3 first convolution and no pooling after it.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (2, 2, 2, 2),
        bottleneck: bool = False,
        num_classes: int = 1000,
        width: float = 1.0,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        shortcut: Literal["A", "B"] = "B",
        scaling: Scaling = IMAGENET,
        rngs: nnx.Rngs,
    ):
        if shortcut not in ("A", "B"):
            raise BadInput(f"ResNet has no shortcut '{shortcut}': give A (zeros) or B (projections)")
        self.small, self.stages, self.scaling = len(depths) == 3, len(depths), scaling
        stem: dict[str, Any] = {"size": 3} if self.small else {"size": 7, "stride": 2}
        inputs = scaled(channels[0], width)
        self.conv1 = convolution(len(scaling.mean), inputs, **stem, rngs=rngs)
        self.bn1 = normalization(inputs)
        for stage, (depth, count) in enumerate(zip(depths, channels, strict=True), 1):
            blocks = []
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 else 1
                block = Block(inputs, scaled(count, width), stride, bottleneck=bottleneck, shortcut=shortcut, rngs=rngs)
                blocks.append(block)
                inputs = scaled(count, width) * (Block.expansion if bottleneck else 1)
            setattr(self, f"layer{stage}", LIST(blocks))
        self.fc = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, H, W, 3] to logits [B, num_classes]."""
        x = jax.nn.relu(self.bn1(self.conv1(normalized(images, self.scaling))))
        x = x if self.small else max_pool(x, 3, 2, padding=1)
        for stage in range(1, self.stages + 1):
            for block in getattr(self, f"layer{stage}"):
                x = block(x)
        return self.fc(x.mean((1, 2)))

    def torch_name(self, layer: str) -> str:
        """torchvision's: a shortcut is ``downsample.0`` and ``downsample.1``."""
        layer = re.sub("shortcut/(conv|norm)", lambda found: f"downsample.{int(found[1] == 'norm')}", layer)
        return layer.replace("/", ".")


def _padded(x: Array, stride: int, channels: int) -> Array:
    """Every ``stride``-th pixel of [B, H, W, C], with zeros for the channels that are missing of ``channels``."""
    x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1)) if stride > 1 else x
    more = channels - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))) if more else x
