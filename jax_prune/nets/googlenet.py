"""GoogLeNet: Inception v1 (Szegedy et al. 2015, arXiv 1409.4842) in torchvision's form, whose weights are released.

It differs from the paper: batch normalisation after every convolution instead of biases and response normalisation, 3x3
kernels where the paper's third branch has 5x5, 2x2 windows in the last pooling; no auxiliary heads.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.nets.layers import convolution, normalization, scaled
from jax_prune.nets.lowering import max_pool
from jax_prune.nets.pixels import HALVES, Scaling, normalized
from jax_prune.types import Array

# table 1: outputs of 1x1; 3x3 reduction, 3x3; 5x5 reduction, 5x5; projection after pooling
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOLED = {"inception3b": 3, "inception4e": 2}  # modules that a pooling with stride 2 follows, and its windows' size
narrow = nnx.initializers.truncated_normal(0.01)


class Unit(nnx.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, rngs: nnx.Rngs):
        self.conv = convolution(inputs, outputs, size, stride=stride, kernel_init=narrow, rngs=rngs)
        self.bn = normalization(outputs, epsilon=1e-3)

    def __call__(self, x: Array) -> Array:
        return jax.nn.relu(self.bn(self.conv(x)))


class Inception(nnx.Module):
    """Four branches of [B, H, W, inputs] side by side: 1x1; 1x1 and 3x3, twice; 3x3 pooling and 1x1."""

    def __init__(self, inputs: int, outputs: tuple[int, ...], *, rngs: nnx.Rngs):
        single, reduced2, second, reduced3, third, projected = outputs
        self.branch1 = Unit(inputs, single, 1, rngs=rngs)
        self.branch2_reduce = Unit(inputs, reduced2, 1, rngs=rngs)
        self.branch2 = Unit(reduced2, second, 3, rngs=rngs)
        self.branch3_reduce = Unit(inputs, reduced3, 1, rngs=rngs)
        self.branch3 = Unit(reduced3, third, 3, rngs=rngs)
        self.branch4 = Unit(inputs, projected, 1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        pooled = max_pool(x, 3, 1, padding=1)
        branches = [
            self.branch1(x),
            self.branch2(self.branch2_reduce(x)),
            self.branch3(self.branch3_reduce(x)),
            self.branch4(pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(nnx.Module):
    """conv1 ... conv3, nine Inception modules, the mean over all pixels, dropout of 0.4 as published, fc.

    6,624,904 parameters; ``width`` scales all channels. Initial weights are N(0, 0.01) without tails, as torchvision's.
    """

    def __init__(self, *, num_classes: int = 1000, width: float = 1.0, scaling: Scaling = HALVES, rngs: nnx.Rngs):
        self.scaling = scaling
        narrow64, channels = scaled(64, width), scaled(192, width)
        self.conv1 = Unit(len(scaling.mean), narrow64, 7, stride=2, rngs=rngs)
        self.conv2 = Unit(narrow64, narrow64, 1, rngs=rngs)
        self.conv3 = Unit(narrow64, channels, 3, rngs=rngs)
        for name, counts in INCEPTIONS.items():
            outputs = tuple(scaled(count, width) for count in counts)
            setattr(self, name, Inception(channels, outputs, rngs=rngs))
            channels = outputs[0] + outputs[2] + outputs[4] + outputs[5]
        self.dropout = nnx.Dropout(0.4, rngs=rngs)
        self.fc = nnx.Linear(channels, num_classes, kernel_init=narrow, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, H, W, 3] to logits [B, num_classes]."""
        x = self.conv1(normalized(images, self.scaling))
        x = max_pool(x, 3, 2, ceil=True)
        x = max_pool(self.conv3(self.conv2(x)), 3, 2, ceil=True)
        for name in INCEPTIONS:
            x = getattr(self, name)(x)
            x = max_pool(x, POOLED[name], 2, ceil=True) if name in POOLED else x
        return self.fc(self.dropout(x.mean((1, 2))))

    def torch_name(self, layer: str) -> str:
        """torchvision's: branches of two units are sequences, and so is the fourth, whose pooling counts."""
        layer = re.sub(r"branch([23])_reduce", r"branch\1.0", layer)
        layer = re.sub(r"branch([234])(?=/)", r"branch\1.1", layer)
        return layer.replace("/", ".")
