"""Tiny raw files in the published formats, made here."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

COUNTS = {"train": 30, "test": 7}


@pytest.fixture(name="write_idx")
def _write_idx():
    return write_idx


def write_idx(path: Path, array: np.ndarray) -> None:
    data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def digits():
    """{"train", "test"} -> (uint8 [B, 28, 28], uint8 [B])."""
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8))
        for split, count in COUNTS.items()
    }


@pytest.fixture
def idx_folder(tmp_path, digits):
    """Plain training files and gzipped test files, as a user may have them."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for split, prefix, packed in (("train", "train", ""), ("test", "t10k", ".gz")):
        images, labels = digits[split]
        write_idx(folder / f"{prefix}-images-idx3-ubyte{packed}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{packed}", labels)
    return folder


@pytest.fixture
def pictures():
    """{"train", "test"} -> (uint8 [B, 32, 32, 3], uint8 [B]); train fills five batches of six."""
    rng = np.random.default_rng(1)
    return {
        split: (rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count, np.uint8))
        for split, count in COUNTS.items()
    }


def _batches(pictures):
    images, labels = pictures["train"]
    for index in range(5):
        part = slice(6 * index, 6 * index + 6)
        yield f"data_batch_{index + 1}", images[part], labels[part]
    yield "test_batch", *pictures["test"]


@pytest.fixture
def strip_folder(tmp_path, pictures):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "strips"
    folder.mkdir()
    for name, images, _ in _batches(pictures):
        image.fromarray(images.reshape(len(images), 1024, 3)).save(folder / f"{name}.png")
    for split, (_, labels) in pictures.items():
        (folder / f"{split}_lables.json").write_text(json.dumps(labels.tolist()))
    return folder


@pytest.fixture
def binary_folder(tmp_path, pictures):
    folder = tmp_path / "binary"
    folder.mkdir()
    for name, images, labels in _batches(pictures):
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels, planes]).tobytes())
    return folder
