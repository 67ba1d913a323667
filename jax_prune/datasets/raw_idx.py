"""Reads IDX files, the format MNIST and Fashion-MNIST are published in (plain or gzipped).

Source: http://yann.lecun.com/exdb/mnist: two zero bytes, type 8 (uint8), number of axes, the
lengths as big-endian int32, then the values in C order.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from jax_prune.errors import BadInput
from jax_prune.types import Batch

PREFIXES = {"train": "train", "test": "t10k"}
FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"


def read_folder(folder: Path) -> dict[str, Batch]:
    """The four files of ``folder``: {"train", "test"} -> Batch(uint8 [B, H, W, 1], uint8 [B]).

    Raises BadInput for a file that is missing, torn, or not IDX with the axes expected.
    """
    return {split: _read_split(folder, prefix) for split, prefix in PREFIXES.items()}


def _read_split(folder: Path, prefix: str) -> Batch:
    images = read_file(_find(folder, f"{prefix}-images", "idx3-ubyte"), axes=3)
    labels = read_file(_find(folder, f"{prefix}-labels", "idx1-ubyte"), axes=1)
    return Batch(images[..., None], labels)


def _find(folder: Path, stem: str, ending: str) -> Path:
    names = [f"{stem}{joint}{ending}{packed}" for packed in ("", ".gz") for joint in ("-", ".")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    below = next((path.parent for path in sorted(folder.glob("*/*")) if path.name in names), None)
    hint = f"; it is in {below}: pass that folder" if below else f"; the folder must hold {FILES} (plain or .gz)"
    raise BadInput(f"{folder} has no {names[0]}{hint}")


def read_file(path: Path, *, axes: int) -> np.ndarray:
    """One IDX file of unsigned bytes as a uint8 array with ``axes`` axes; ``.gz`` is unpacked."""
    data = _bytes(path)
    head = 4 + 4 * axes
    if len(data) < head or data[:4] != bytes((0, 0, 8, axes)):
        raise BadInput(f"{path} is not an IDX file of unsigned bytes with {axes} axes; fetch it again")
    shape = struct.unpack(f">{axes}i", data[4:head])
    promised = head + math.prod(shape)
    if len(data) != promised:
        raise BadInput(f"{path} has {len(data)} bytes where its header promises {promised}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path} is torn or not gzip ({error}); fetch it again") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
