"""MNIST, whole, in the package: two xz streams in ``mnist.xz`` (see MNIST.md), test apart from training."""

from __future__ import annotations

import hashlib
import lzma
from importlib import resources
from typing import NamedTuple

import numpy as np

from jax_prune.datasets.splits import Splits, hold_out
from jax_prune.errors import BadInput
from jax_prune.types import Batch

CLASSES = 10
SIDE = 28


class Stream(NamedTuple):
    """One xz stream of the file: where it lies, its digest, and how many examples it holds."""

    start: int
    stop: int
    sha256: str
    examples: int


TRAIN = Stream(0, 7_831_828, "798ae7406c80c20d42acb12259b26110d2184513a5f95e174a713032369dddd6", 60_000)
TEST = Stream(7_831_828, 9_186_760, "2833556d0db7c2076954ad1266fa3d9334fc4552e6330ab38efbca313a82e79a", 10_000)


def splits() -> Splits:
    """55,000 to train, 5,000 to validate (the last of the published training file), 10,000 to test.

    Images uint8 [B, 28, 28, 1], labels int32 [B], published order. The test stream is neither
    read nor decoded before ``test()``. Raises BadInput when the file is missing or altered.
    """
    train, validation = hold_out(_read(TRAIN))
    return Splits(train, validation, lambda: _read(TEST), CLASSES, "mnist")


def _read(stream: Stream) -> Batch:
    packed = _packed(stream)
    if hashlib.sha256(packed).hexdigest() != stream.sha256:
        raise BadInput("the embedded MNIST file jax_prune/datasets/mnist.xz was altered; install jax-prune again")
    data = np.frombuffer(lzma.decompress(packed), np.uint8)
    images = data[: -stream.examples].reshape(stream.examples, SIDE, SIDE, 1)
    return Batch(images, data[-stream.examples :].astype(np.int32))


def _packed(stream: Stream) -> bytes:
    try:
        with resources.files("jax_prune.datasets").joinpath("mnist.xz").open("rb") as file:
            file.seek(stream.start)
            return file.read(stream.stop - stream.start)
    except FileNotFoundError as error:
        raise BadInput(
            "the embedded MNIST file jax_prune/datasets/mnist.xz is missing; install jax-prune again"
        ) from error
