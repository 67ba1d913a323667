"""LeNet-300-100 and LeNet-5, the two networks on which pruning methods are compared (LeCun et al. 1998).

Images are [B, 28, 28, 1]; uint8 pixels are scaled to [0, 1], floats are taken as they are.
"""

from __future__ import annotations

import jax
from flax import nnx

from jax_prune.nets.lowering import conv_general, max_pool_2x2
from jax_prune.nets.pixels import pixels
from jax_prune.types import Array

he_normal = nnx.initializers.he_normal()


class LeNet300(nnx.Module):
    """784-300-100-10, ReLU between: 266,200 weights and 410 biases."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.ip1 = nnx.Linear(784, 300, kernel_init=he_normal, rngs=rngs)
        self.ip2 = nnx.Linear(300, 100, kernel_init=he_normal, rngs=rngs)
        self.ip3 = nnx.Linear(100, 10, kernel_init=he_normal, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, 28, 28, 1] to logits [B, 10]."""
        x = pixels(images).reshape(images.shape[0], -1)
        x = jax.nn.relu(self.ip1(x))
        x = jax.nn.relu(self.ip2(x))
        return self.ip3(x)


class LeNet5(nnx.Module):
    """Caffe's LeNet: 5x5 convolutions of 20 and 50 channels, each max-pooled by 2, then 500 and 10 units.

    ReLU follows the first dense layer only, as in Caffe's prototxt. 430,500 weights, 580 biases.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        def conv(inputs: int, outputs: int) -> nnx.Conv:
            return nnx.Conv(
                inputs,
                outputs,
                (5, 5),
                padding="VALID",
                kernel_init=he_normal,
                conv_general_dilated=conv_general,
                rngs=rngs,
            )

        self.conv1 = conv(1, 20)
        self.conv2 = conv(20, 50)
        self.ip1 = nnx.Linear(800, 500, kernel_init=he_normal, rngs=rngs)
        self.ip2 = nnx.Linear(500, 10, kernel_init=he_normal, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Images [B, 28, 28, 1] to logits [B, 10]."""
        x = max_pool_2x2(self.conv1(pixels(images)))
        x = max_pool_2x2(self.conv2(x))
        x = jax.nn.relu(self.ip1(x.reshape(x.shape[0], -1)))
        return self.ip2(x)
