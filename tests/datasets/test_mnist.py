"""The embedded MNIST is the published one, whole, and its test part stays packed until asked for."""

from __future__ import annotations

import hashlib
import lzma
import struct

import numpy as np
import pytest

from jax_prune import datasets
from jax_prune.datasets import embed_mnist, mnist
from jax_prune.errors import BadInput


@pytest.fixture(scope="module")
def splits():
    return datasets.load("mnist")


def _idx_sha256(array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape)
    return hashlib.sha256(header + array.astype(np.uint8).tobytes()).hexdigest()


def test_rebuilds_the_four_published_files(splits):
    test = splits.test()
    images = np.concatenate([splits.train.x, splits.validation.x])
    labels = np.concatenate([splits.train.y, splits.validation.y])
    arrays = (images[..., 0], labels, test.x[..., 0], test.y)
    assert [_idx_sha256(array) for array in arrays] == list(embed_mnist.SOURCES.values())


def test_shapes_dtypes_and_sizes(splits):
    for batch, count in ((splits.train, 55_000), (splits.validation, 5_000), (splits.test(), 10_000)):
        assert batch.x.shape == (count, 28, 28, 1) and batch.x.dtype == np.uint8
        assert batch.y.shape == (count,) and batch.y.dtype == np.int32
    assert (splits.classes, splits.name) == (10, "mnist")


def test_test_examples_are_not_decoded_before_they_are_asked_for(monkeypatch):
    decoded = []

    def watch(data):
        decoded.append(len(data))
        return unpack(data)

    unpack = lzma.decompress
    monkeypatch.setattr(lzma, "decompress", watch)
    splits = datasets.load("mnist")
    assert decoded == [mnist.TRAIN.stop]
    splits.test()
    assert decoded == [mnist.TRAIN.stop, mnist.TEST.stop - mnist.TEST.start]


def test_file_is_at_most_ten_megabytes_and_an_altered_one_is_refused(monkeypatch, tmp_path):
    folder = mnist.resources.files("jax_prune.datasets")
    data = bytearray(folder.joinpath("mnist.xz").read_bytes())
    assert len(data) <= 10_000_000
    data[1_000_000] ^= 1
    (tmp_path / "mnist.xz").write_bytes(data)
    monkeypatch.setattr(mnist.resources, "files", lambda package: tmp_path)
    with pytest.raises(BadInput, match="altered"):
        datasets.load("mnist")
    (tmp_path / "mnist.xz").unlink()
    with pytest.raises(BadInput, match="missing"):
        datasets.load("mnist")
