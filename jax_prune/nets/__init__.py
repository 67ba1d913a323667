"""Networks: Flax NNX modules, one family a file, and the ways in for a user's own."""

from jax_prune.nets.alexnet import AlexNet
from jax_prune.nets.build import ZOO, build
from jax_prune.nets.committee import committee
from jax_prune.nets.densenet import DenseNet
from jax_prune.nets.from_linen import from_linen
from jax_prune.nets.from_nnx import from_nnx
from jax_prune.nets.from_torch import from_torch
from jax_prune.nets.googlenet import GoogLeNet
from jax_prune.nets.har import HAR, streaming
from jax_prune.nets.lenet import LeNet5, LeNet300
from jax_prune.nets.resnet import ResNet
from jax_prune.nets.vgg import VGG

__all__ = [
    "HAR",
    "VGG",
    "ZOO",
    "AlexNet",
    "DenseNet",
    "GoogLeNet",
    "LeNet5",
    "LeNet300",
    "ResNet",
    "build",
    "committee",
    "from_linen",
    "from_nnx",
    "from_torch",
    "streaming",
]
