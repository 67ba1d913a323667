"""Networks: Flax NNX modules, one family a file, and the ways in for a user's own."""

from jax_prune.nets.build import ZOO, build
from jax_prune.nets.committee import committee
from jax_prune.nets.from_linen import from_linen
from jax_prune.nets.from_nnx import from_nnx
from jax_prune.nets.lenet import LeNet5, LeNet300

__all__ = ["ZOO", "LeNet5", "LeNet300", "build", "committee", "from_linen", "from_nnx"]
