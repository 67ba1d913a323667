"""Real data: MNIST embedded, official TFDS sets from disk, users' own arrays and batches; recordings in ``har``.

splits = datasets.load("mnist")          # embedded, no file or network needed
splits.train.x                           # uint8 [55000, 28, 28, 1]
splits.test()                            # reads the 10,000 test examples, for the report alone
batch = datasets.from_arrays(images, labels, classes=10)
"""

from __future__ import annotations

from jax_prune.datasets import har
from jax_prune.datasets.arrays import from_arrays, from_batches
from jax_prune.datasets.catalogue import load
from jax_prune.datasets.checks import check
from jax_prune.datasets.preparation import PREPARABLE, prepare
from jax_prune.datasets.splits import Splits, hold_out

__all__ = ["PREPARABLE", "Splits", "check", "from_arrays", "from_batches", "har", "hold_out", "load", "prepare"]
