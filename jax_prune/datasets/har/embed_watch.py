"""Makes the embedded file: ``python -m jax_prune.datasets.har.embed_watch WATCH_DATASET_NPY OUT``.

Run once by a maintainer; seconds. Prints the digest that ``watch.py`` checks, and the largest quantisation error.
Differences by byte planes pack to 1.9 MB (differences sample by sample 2.1 MB, plain values 2.5 MB).
"""

from __future__ import annotations

import hashlib
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jax_prune import storage
from jax_prune.datasets.har import raw_pickle, watch
from jax_prune.datasets.har.series import Recording
from jax_prune.errors import BadInput

SOURCE = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


def embed(source: Path, out: Path) -> list[str]:
    """Writes one xz stream; returns what a maintainer wants to read. Raises BadInput for another source."""
    if hashlib.sha256(source.read_bytes()).hexdigest() != SOURCE:
        raise BadInput(f"{source} is not seglearn's watch_dataset.npy (sha256 differs)")
    recordings = published(source)
    data = packed(recordings)
    storage.write_bytes(out, data)
    pairs = zip(watch.unpacked(lzma.decompress(data)), recordings, strict=True)
    error = np.max([np.abs(mine.samples - theirs.samples).max(axis=0) for mine, theirs in pairs], axis=0)
    return [f'{len(data)} bytes, sha256 "{hashlib.sha256(data).hexdigest()}"', f"largest error by channel: {error}"]


def published(source: Path) -> list[Recording]:
    """The recordings as published, float64, in the published order."""
    content = raw_pickle.read(source).state[4][0]
    subjects, activities = raw_pickle.array(content["subject"]), raw_pickle.array(content["y"])
    return [
        Recording(samples, np.full(len(samples), activity, np.int32), int(subject))
        for samples, activity, subject in zip(map(raw_pickle.array, content["X"]), activities, subjects, strict=True)
    ]


def packed(recordings: Sequence[Recording]) -> bytes:
    """The xz stream that ``watch.unpacked`` reads."""
    signals = np.concatenate([np.rint(each.samples * watch.STEPS).astype(np.int16) for each in recordings])
    steps = np.diff(signals, axis=0, prepend=np.zeros((1, signals.shape[1]), np.int16))
    planes = steps.astype("<i2")[..., None].view(np.uint8).transpose(1, 2, 0)
    data = b"".join(
        (
            np.array([len(each.samples) for each in recordings], "<i4").tobytes(),
            np.array([each.subject for each in recordings], np.uint8).tobytes(),
            np.array([each.activity[0] for each in recordings], np.uint8).tobytes(),
            planes.tobytes(),
        )
    )
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME)


if __name__ == "__main__":
    print("\n".join(embed(Path(sys.argv[1]), Path(sys.argv[2]))))
