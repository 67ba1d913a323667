"""All that is known here of tensorflow-datasets: reading and writing array_record sets without TensorFlow.

Measured with tfds 4.9.10: ``builder_from_directory(...).as_data_source`` and custom builders with
``file_format="array_record"`` need no TensorFlow; ``tfds.load`` does, and so does writing an Image
given as an array, hence the PNG bytes. An official name is written by a subclass of the official
builder made inside ``skip_registration``; the keys are the official ones, so the shuffled order on
disk is too. tfds is imported when first used (1.5 s).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.types import Batch

FORMAT = "array_record"
CHUNK = 1_000  # records decoded between two looks at the progress bar
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

# What a builder class made here needs besides its examples.
OFFLINE = {
    "_log_download_bytes": lambda self: None,
    "_log_download_done": lambda self: None,
    "pkg_dir_path": None,
    "code_path": None,  # looking for the code imports importlib_resources, which may be absent
    "__module__": __name__,
}


def known_names() -> list[str]:
    """Names of the sets that tfds itself has builders for."""
    return list(tfds_module().list_builders(with_community_datasets=False))


def default_folder() -> Path:
    """Where tfds keeps sets when no data_dir is given ($TFDS_DATA_DIR or ~/tensorflow_datasets)."""
    return Path(os.path.expanduser(str(tfds_module().core.constants.DATA_DIR)))


def find(name: str, data_dir: Path | None) -> Path | None:
    """The folder of a prepared set ``name[/config][:version]``, or None. Raises BadInput if unreadable."""
    tfds = tfds_module()
    if not re.fullmatch(r"\w+(/[\w.\-]+)?(:[\w.*]+)?", name):
        return None
    try:
        found = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir and os.fspath(data_dir))
    except tfds.core.DatasetNotFoundError:
        return None
    except Exception as error:  # torn metadata, one set in two folders
        raise BadInput(f"{name} in {data_dir or default_folder()} cannot be read ({one_line(error)})") from error
    return Path(found.data_dir)


class Prepared:
    """A prepared set on disk: split names with their example counts, classes, and arrays by split."""

    def __init__(self, folder: Path):
        """Reads the metadata alone. Raises BadInput when it is damaged or the format is another."""
        self.folder = folder
        with damage(folder):
            self._builder = tfds_module().core.read_only_builder.builder_from_directory(os.fspath(folder))
            info = self._builder.info
            self.counts: dict[str, int] = {name: split.num_examples for name, split in info.splits.items()}
            self._format, self._keys, self._features = info.file_format, info.supervised_keys, info.features
        if self._format is None or self._format.value != FORMAT:
            raise BadInput(f"{folder} is not in {FORMAT} format, which is read without TensorFlow; prepare it again")
        if not (
            isinstance(self._keys, tuple) and len(self._keys) == 2 and all(k in self._features for k in self._keys)
        ):
            raise BadInput(f"{folder} names no (input, target) pair; read it yourself and use datasets.from_batches")

    @property
    def classes(self) -> int | None:
        """Number of classes where the target is a class label, else None."""
        return getattr(self._features[self._keys[1]], "num_classes", None)

    def read(self, split: str) -> Batch:
        """The whole split in memory, in the order on disk: Batch(x [B, ...], y int32 [B] for labels).

        Raises BadInput when files are missing or damaged or the examples differ in shape.
        """
        total, what = self.counts[split], f"read {self._builder.name} {split}"
        with damage(self.folder), quiet(), progress.bar(what, total) as advance:
            source = self._builder.as_data_source(split=split)
            first = source[0]
            arrays = [np.empty((total, *np.shape(first[k])), _dtype(first[k])) for k in self._keys]
            for start in range(0, total, CHUNK):
                rows = range(start, min(start + CHUNK, total))
                self._fill(arrays, start, source.__getitems__(rows))
                advance(len(rows))
        return Batch(*arrays)

    def _fill(self, arrays: list[np.ndarray], start: int, examples: list[dict[str, Any]]) -> None:
        for array, key in zip(arrays, self._keys, strict=True):
            for index, example in enumerate(examples, start):
                if np.shape(example[key]) != array.shape[1:]:
                    shapes = f"{list(array.shape[1:])} and {list(np.shape(example[key]))}"
                    raise BadInput(
                        f"{self.folder}: '{key}' has examples of shapes {shapes}; resize them yourself and "
                        "use datasets.from_batches"
                    )
                array[index] = example[key]


def write(name: str, splits: dict[str, Batch], stage: Path) -> Path:
    """Writes images uint8 [B, H, W, C] and labels [B] as the official set ``name`` below ``stage``.

    Returns its folder ``stage/name/version``. Nothing is downloaded. Raises OSError when the disk is
    full or fails: the caller owns ``stage`` and discards it.
    """
    total = sum(len(batch.y) for batch in splits.values())
    with quiet(), progress.bar(f"prepare {name}", total) as advance:
        builder = _offline_builder(name, splits, advance)(data_dir=os.fspath(stage), file_format=FORMAT)
        if name == "cifar10":
            builder.info.features["label"].names = CIFAR10_NAMES
        run(builder, stage)
    return Path(builder.data_dir)


def run(builder: Any, stage: Path) -> None:
    """Writes ``builder``'s set, offline. Raises OSError when the disk is full or fails."""
    config = tfds_module().download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=os.fspath(stage / "downloads"), download_config=config)
    except RuntimeError as error:  # how array_record reports that a write failed
        raise OSError(one_line(error)) from error


def _offline_builder(name: str, splits: dict[str, Batch], advance: Callable[[], None]) -> Any:
    tfds = tfds_module()
    official = tfds.core.load.builder_cls(name)

    def generate(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(*splits[split], strict=True)):
            identity = {"id": f"{split}_{index:05d}"} if name == "cifar10" else {}
            yield index, {"image": _png(image), "label": int(label), **identity}
            advance()

    body = {
        "_split_generators": lambda self, downloads: {split: generate(split) for split in splits},
        **OFFLINE,
    }
    with tfds.core.registered.skip_registration():
        return type(official.__name__, (official,), body)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, "PNG")
    return data.getvalue()


def _dtype(value: Any) -> Any:
    dtype = np.asarray(value).dtype
    if dtype.kind == "O":  # what a truncated file may give instead of an error
        raise ValueError("its records are empty")
    if dtype.kind not in "buifc":
        raise ValueError(f"its examples are {dtype}, not numbers")
    return np.int32 if dtype == np.int64 else np.float32 if dtype == np.float64 else dtype


@contextmanager
def damage(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged set in ``folder`` raises into BadInput."""
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # tfds, array_record and the decoders raise kinds of their own
        raise BadInput(f"{folder} cannot be read ({one_line(error)}); delete it and prepare it again") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences tfds's own bars and its advice to install OpenCV; our bar is on show."""
    from absl import logging
    from tensorflow_datasets.core.utils import tqdm_utils

    before, verbosity = tqdm_utils._active, logging.get_verbosity()
    tqdm_utils.display_progress_bar(False)
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        tqdm_utils.display_progress_bar(before)
        logging.set_verbosity(verbosity)


def one_line(error: BaseException) -> str:
    """What ``error`` says, in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def tfds_module() -> Any:
    """tensorflow_datasets, imported when first used. Raises BadInput where it or array_record is not installed."""
    try:
        import array_record  # noqa: F401 - as_data_source needs it
        import tensorflow_datasets
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed; run: pip install 'jax-prune[data]'") from error
    return tensorflow_datasets
