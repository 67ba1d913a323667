"""VGG: stacks of 3x3 convolutions between poolings (Simonyan & Zisserman 2015, arXiv 1409.1556, table 1).

For ImageNet with the published head of three dense layers, with or without batch normalisation; for CIFAR-10 as pruning
is compared on it: batch normalisation and a single dense layer after the convolutions. Initial kernels are He et
al.'s, which trains all depths from scratch; dense layers N(0, 0.01) as published.
"""

from __future__ import annotations

import jax
from flax import nnx

from jax_prune.errors import BadInput
from jax_prune.nets.layers import convolution, normalization, scaled
from jax_prune.nets.lowering import max_pool_2x2
from jax_prune.nets.pixels import CIFAR10, IMAGENET, Scaling, normalized
from jax_prune.types import Array

CHANNELS = (64, 128, 256, 512, 512)
D = (2, 2, 3, 3, 3)  # the paper's configurations: convolutions before each pooling
E = (2, 2, 4, 4, 4)
CIFAR = {"num_classes": 10, "size": 32, "batch_norm": True, "hidden": (), "scaling": CIFAR10}


class VGG(nnx.Module):
    """conv1_1 ... conv5_3 (with norm1_1 ...), fc6, fc7 with dropout, fc8; without ``hidden`` units a single fc.

    VGG16 and VGG19 have 138,357,544 and 143,667,240 parameters, with batch normalisation 138,365,992 and 143,678,248;
    VGG16 for CIFAR-10 14,728,266. ``width`` scales convolutions and hidden units.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = D,
        num_classes: int = 1000,
        size: int = 224,
        width: float = 1.0,
        batch_norm: bool = False,
        hidden: tuple[int, ...] = (4096, 4096),
        scaling: Scaling = IMAGENET,
        rngs: nnx.Rngs,
    ):
        self.depths, self.size, self.batch_norm, self.scaling = tuple(depths), size, batch_norm, scaling
        self.side = size // 2 ** len(depths)
        if self.side < 1:
            raise BadInput(f"VGG halves images {len(depths)} times, and size={size} is too small: give 32 or more")
        inputs = len(scaling.mean)
        for name, block in self._convolutions():
            outputs = scaled(CHANNELS[block], width)
            setattr(self, f"conv{name}", convolution(inputs, outputs, 3, bias=True, rngs=rngs))
            if batch_norm:
                setattr(self, f"norm{name}", normalization(outputs))
            inputs = outputs
        units = [inputs * self.side**2, *(scaled(count, width) for count in hidden), num_classes]
        self.dense = tuple(f"fc{6 + i}" for i in range(len(hidden) + 1)) if hidden else ("fc",)
        for name, inputs, outputs in zip(self.dense, units[:-1], units[1:], strict=True):
            setattr(self, name, nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.normal(0.01), rngs=rngs))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, size, size, 3] to logits [B, num_classes]."""
        x, block = normalized(images, self.scaling, self.size), 0
        for name, following in self._convolutions():
            if following > block:
                x, block = max_pool_2x2(x), following
            x = getattr(self, f"conv{name}")(x)
            x = jax.nn.relu(getattr(self, f"norm{name}")(x) if self.batch_norm else x)
        x = max_pool_2x2(x).reshape(x.shape[0], -1)
        for name in self.dense[:-1]:
            x = self.dropout(jax.nn.relu(getattr(self, name)(x)))
        return getattr(self, self.dense[-1])(x)

    def torch_name(self, layer: str) -> str:
        """torchvision's: features and classifier numbered through, activations, poolings and dropouts counted."""
        if layer in self.dense:
            return f"classifier.{3 * self.dense.index(layer)}" if len(self.dense) > 1 else "classifier"
        names = [name for name, _ in self._convolutions()]
        before = names.index(layer.removeprefix("conv").removeprefix("norm"))
        pools = self._convolutions()[before][1]
        return f"features.{before * (2 + self.batch_norm) + pools + layer.startswith('norm')}"

    def torch_grid(self, layer: str) -> tuple[int, int]:
        """Height and width of the image that a dense layer is given flat."""
        return (self.side, self.side) if layer == self.dense[0] else (1, 1)

    def _convolutions(self) -> list[tuple[str, int]]:
        """Every convolution's name, "1_1" first, with its block's index."""
        return [(f"{block + 1}_{i + 1}", block) for block, depth in enumerate(self.depths) for i in range(depth)]
