"""DenseNet: every layer sees the outputs of all before it (Huang, Liu, van der Maaten & Weinberger 2017, 1608.06993).

For ImageNet as torchvision has it, and for CIFAR-10. Initial kernels are He et al.'s; no dropout, as published where
images are augmented.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.nets.layers import LIST, convolution, normalization, scaled
from jax_prune.nets.lowering import max_pool, mean_pool_2x2
from jax_prune.nets.pixels import CIFAR10, IMAGENET, Scaling, normalized
from jax_prune.types import Array

CIFAR = {"depths": (16, 16, 16), "growth": 12, "stem": 24, "num_classes": 10, "scaling": CIFAR10}
CIFAR_PLAIN = CIFAR | {"depths": (12, 12, 12), "stem": 16, "bottleneck": False, "compression": 1.0}
BOTTLENECK = 4  # channels between a layer's two convolutions, in multiples of the growth


class Layer(nnx.Module):
    """Normalisation, ReLU, 3x3 convolution to ``growth`` channels; as a bottleneck 1x1 before it, the same way."""

    def __init__(self, inputs: int, growth: int, *, bottleneck: bool, rngs: nnx.Rngs):
        self.norm1 = normalization(inputs)
        between = BOTTLENECK * growth if bottleneck else growth
        self.conv1 = convolution(inputs, between, 1 if bottleneck else 3, rngs=rngs)
        self.norm2 = normalization(between) if bottleneck else None
        self.conv2 = convolution(between, growth, 3, rngs=rngs) if bottleneck else None

    def __call__(self, x: Array) -> Array:
        x = self.conv1(jax.nn.relu(self.norm1(x)))
        return self.conv2(jax.nn.relu(self.norm2(x))) if self.norm2 and self.conv2 else x


class Transition(nnx.Module):
    """Between blocks: normalisation, ReLU, 1x1 convolution, mean over 2x2 pixels."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.norm = normalization(inputs)
        self.conv = convolution(inputs, outputs, 1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return mean_pool_2x2(self.conv(jax.nn.relu(self.norm(x))))


class DenseNet(nnx.Module):
    """conv0, dense blocks with transitions between them, norm5, the mean over all pixels, classifier.

    DenseNet-121 and 169 have 7,978,856 and 14,149,480 parameters; for CIFAR-10 DenseNet-BC (L = 100, k = 12) has
    769,162 and DenseNet (L = 40, k = 12) 1,019,722: 0.8 M and 1.0 M in the paper. ``depths`` are the blocks' layers,
    ``growth`` the channels a layer adds, ``stem`` those of conv0, ``compression`` the share of channels that a
    transition keeps; ``width`` scales growth and stem. Three blocks make the network for small images: a 3x3 first
    convolution, and no pooling after it.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        bottleneck: bool = True,
        compression: float = 0.5,
        num_classes: int = 1000,
        width: float = 1.0,
        scaling: Scaling = IMAGENET,
        rngs: nnx.Rngs,
    ):
        self.small, self.blocks, self.scaling = len(depths) == 3, len(depths), scaling
        channels, growth = scaled(stem, width), scaled(growth, width)
        first: dict[str, Any] = {"size": 3} if self.small else {"size": 7, "stride": 2}
        self.conv0 = convolution(len(scaling.mean), channels, **first, rngs=rngs)
        self.norm0 = None if self.small else normalization(channels)
        for block, depth in enumerate(depths, 1):
            inputs = range(channels, channels + depth * growth, growth)
            layers = [Layer(count, growth, bottleneck=bottleneck, rngs=rngs) for count in inputs]
            setattr(self, f"denseblock{block}", LIST(layers))
            channels += depth * growth
            if block < len(depths):
                outputs = int(channels * compression)
                setattr(self, f"transition{block}", Transition(channels, outputs, rngs=rngs))
                channels = outputs
        self.norm5 = normalization(channels)
        self.classifier = nnx.Linear(channels, num_classes, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, H, W, 3] to logits [B, num_classes]."""
        x = self.conv0(normalized(images, self.scaling))
        if self.norm0:
            x = max_pool(jax.nn.relu(self.norm0(x)), 3, 2, padding=1)
        for block in range(1, self.blocks + 1):
            for layer in getattr(self, f"denseblock{block}"):
                x = jnp.concatenate([x, layer(x)], axis=-1)
            x = getattr(self, f"transition{block}")(x) if block < self.blocks else x
        return self.classifier(jax.nn.relu(self.norm5(x)).mean((1, 2)))

    def torch_name(self, layer: str) -> str:
        """torchvision's: all but the classifier under ``features``, a block's layers from denselayer1 on."""
        if layer == "classifier":
            return layer
        layer = re.sub(r"(denseblock\d+)/(\d+)", lambda found: f"{found[1]}.denselayer{int(found[2]) + 1}", layer)
        return "features." + layer.replace("/", ".")
