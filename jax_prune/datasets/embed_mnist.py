"""Makes the embedded MNIST file: ``python -m jax_prune.datasets.embed_mnist FOLDER_OF_IDX_FILES OUT``.

Run once by a maintainer; needs about a minute. Prints the stream table that ``mnist.py`` checks.
The pixels go in their natural order: LZMA with 4 literal-context bits and no position bits packs
them to 9.1 MB (the transposed order gives 9.3 MB, pixel planes 11.0 MB).
"""

from __future__ import annotations

import hashlib
import lzma
import sys
from pathlib import Path

import numpy as np

from jax_prune import storage
from jax_prune.datasets import raw_idx
from jax_prune.errors import BadInput

SOURCES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 48 << 20,
        "lc": 4,
        "lp": 0,
        "pb": 0,
        "nice_len": 273,
    }
]


def embed(folder: Path, out: Path) -> list[str]:
    """Writes two xz streams, train then test, each images then labels; returns the table's lines."""
    _check_sources(folder)
    parts = {split: _compress(*batch) for split, batch in raw_idx.read_folder(folder).items()}
    storage.write_bytes(out, b"".join(parts.values()))
    return [f'{split}: {len(part)} bytes, sha256 "{hashlib.sha256(part).hexdigest()}"' for split, part in parts.items()]


def _check_sources(folder: Path) -> None:
    for name, expected in SOURCES.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise BadInput(f"{folder / name} is not the published MNIST file (sha256 differs)")


def _compress(images: np.ndarray, labels: np.ndarray) -> bytes:
    data = images.tobytes() + labels.tobytes()
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=FILTERS)


if __name__ == "__main__":
    print("\n".join(embed(Path(sys.argv[1]), Path(sys.argv[2]))))
