"""AlexNet (Krizhevsky, Sutskever & Hinton 2012): five convolutions, three dense layers.

As published, both GPUs' halves in one column: conv2, conv4 and conv5 in two groups, local response normalisation, 227
pixels. Also the network of Krizhevsky 2014 (arXiv 1404.5997), whose weights torchvision has, and one for 32 pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
from flax import nnx

from jax_prune.errors import BadInput
from jax_prune.nets.layers import convolution, he_normal, normalization, scaled
from jax_prune.nets.lowering import max_pool
from jax_prune.nets.pixels import CIFAR10, IMAGENET, Scaling, normalized
from jax_prune.types import Array

KRIZHEVSKY_2014 = {"size": 224, "channels": (64, 192, 384, 256, 256), "stem": (11, 4, 2), "groups": 1, "norm": "none"}
CIFAR = {"num_classes": 10, "size": 32, "stem": (5, 1, 2), "hidden": 1024, "norm": "batch", "scaling": CIFAR10}
POOLED = (1, 2, 5)  # convolutions that a 3x3 pooling with stride 2 follows
SPLIT = (2, 4, 5)  # convolutions in groups, each of which saw one GPU's channels only
ONES = (2, 4, 5)  # convolutions whose biases begin at 1, like the hidden units'


class AlexNet(nnx.Module):
    """conv1 ... conv5, fc6 and fc7 with dropout, fc8: 60,965,224 parameters; that of 2014 has 61,100,840.

    ``stem`` is conv1's size, stride and padding, ``hidden`` the units of fc6 and fc7, ``width`` scales them and the
    convolutions. ``norm`` "response" follows conv1 and conv2 as published, "batch" every convolution. Initial
    weights are N(0, 0.01) and biases 1 or 0, as published; with batch normalisation, ours, He et al.'s and 0.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        size: int = 227,
        width: float = 1.0,
        channels: tuple[int, ...] = (96, 256, 384, 384, 256),
        hidden: int = 4096,
        stem: tuple[int, int, int] = (11, 4, 0),
        groups: int = 2,
        norm: Literal["response", "batch", "none"] = "response",
        scaling: Scaling = IMAGENET,
        rngs: nnx.Rngs,
    ):
        if norm not in ("response", "batch", "none"):
            raise BadInput(f"AlexNet has no norm '{norm}': give response, batch or none")
        self.size, self.norm, self.scaling = size, norm, scaling
        self.side = _side(size, stem)
        published = norm != "batch"
        kernel_init = nnx.initializers.normal(0.01) if published else he_normal
        ones, zeros = nnx.initializers.constant(1.0 if published else 0.0), nnx.initializers.zeros
        inputs = len(scaling.mean)
        for i, (count, window) in enumerate(zip(channels, (stem, (5, 1, 2), *[(3, 1, 1)] * 3), strict=True), 1):
            outputs = scaled(count, width, groups)
            layer = convolution(
                inputs,
                outputs,
                window[0],
                stride=window[1],
                padding=window[2],
                groups=groups if i in SPLIT else 1,
                bias=True,
                kernel_init=kernel_init,
                bias_init=ones if i in ONES else zeros,
                rngs=rngs,
            )
            setattr(self, f"conv{i}", layer)
            if norm == "batch":
                setattr(self, f"norm{i}", normalization(outputs))
            inputs = outputs
        units = scaled(hidden, width)

        def dense(inputs: int, outputs: int, bias_init: Any) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs)

        self.fc6 = dense(inputs * self.side**2, units, ones)
        self.fc7 = dense(units, units, ones)
        self.fc8 = dense(units, num_classes, zeros)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, size, size, 3] to logits [B, num_classes]."""
        x = normalized(images, self.scaling, self.size)
        for i in range(1, 6):
            x = getattr(self, f"conv{i}")(x)
            x = jax.nn.relu(getattr(self, f"norm{i}")(x) if self.norm == "batch" else x)
            if self.norm == "response" and i <= 2:
                x = local_response(x)
            if i in POOLED:
                x = max_pool(x, 3, 2)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(jax.nn.relu(self.fc6(x)))
        x = self.dropout(jax.nn.relu(self.fc7(x)))
        return self.fc8(x)

    def torch_name(self, layer: str) -> str:
        """torchvision's: features and classifier numbered through, activations, poolings and dropouts counted.

        Response normalisation counts as a layer after its ReLU, batch normalisation as one after its convolution.
        """
        if layer.startswith("fc"):
            return f"classifier.{ {'fc6': 1, 'fc7': 4, 'fc8': 6}[layer] }"
        place = int(layer[-1])
        earlier = range(1, place)
        batch = self.norm == "batch"
        response = 2 if self.norm == "response" else 0
        index = (2 + batch) * (place - 1) + sum(i in POOLED for i in earlier) + min(place - 1, response)
        return f"features.{index + layer.startswith('norm')}"

    def torch_grid(self, layer: str) -> tuple[int, int]:
        """Height and width of the image that a dense layer is given flat."""
        return (self.side, self.side) if layer == "fc6" else (1, 1)


def local_response(x: Array) -> Array:
    """Each channel over (2 + 1e-4 s)**0.75, s the sum of squares of the five channels around it (section 3.3)."""
    squares = jax.lax.reduce_window(x * x, 0.0, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    return x / (2 + 1e-4 * squares) ** 0.75


def _side(size: int, stem: tuple[int, int, int]) -> int:
    """Height and width of the image after the convolutions."""
    kernel, stride, padding = stem
    side = (size + 2 * padding - kernel) // stride + 1
    for _ in POOLED:
        side = (side - 3) // 2 + 1
    if side < 1:
        raise BadInput(f"AlexNet with a first convolution of {kernel}x{kernel}, stride {stride}, has nothing left of "
                       f"{size} pixels: give a larger size, or build alexnet_cifar")  # fmt: skip
    return side
