"""``prepare(name, source, data_dir)``: raw files into TFDS sets, offline, whole or not at all."""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jax_prune import progress
from jax_prune.datasets import raw_cifar10, raw_idx, tfds_files
from jax_prune.datasets.har import series_files, sets
from jax_prune.errors import BadInput
from jax_prune.types import Batch


class Recipe(NamedTuple):
    """How raw files are read, and what the published ones hold: (examples, sha256) of each split.

    The digest is over images uint8 [B, H, W, C] then labels uint8 [B], so that every raw format of a
    set has the same one.
    """

    read: Callable[[Path], dict[str, Batch]]
    shape: tuple[int, int, int]
    published: dict[str, tuple[int, str]]


RECIPES = {
    "mnist": Recipe(
        raw_idx.read_folder,
        (28, 28, 1),
        {
            "train": (60_000, "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b"),
            "test": (10_000, "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"),
        },
    ),
    "fashion_mnist": Recipe(
        raw_idx.read_folder,
        (28, 28, 1),
        {
            "train": (60_000, "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157"),
            "test": (10_000, "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4"),
        },
    ),
    "cifar10": Recipe(
        raw_cifar10.read_folder,
        (32, 32, 3),
        {
            "train": (50_000, "f912919bdea371136f1aa4feed6beeca728015a5f08b1899a29c932a7e30be2b"),
            "test": (10_000, "8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa"),
        },
    ),
}
PREPARABLE = (*RECIPES, *sets.SOURCES)


class Content(NamedTuple):
    """What was read: examples of each split, their size, and what writes them below a folder."""

    counts: dict[str, int]
    nbytes: int
    write: Callable[[Path], Path]


def prepare(
    name: str, source: str | os.PathLike[str], data_dir: str | os.PathLike[str], *, verify: bool = True
) -> Path:
    """Turns the raw files in the folder ``source`` into a TFDS set; returns ``data_dir/name/version``.

    mnist and fashion_mnist are read from IDX files (plain or .gz), cifar10 from PNG strips or the
    original binary batches; they become the official sets, in the order on disk that tfds itself would
    write. hapt and utwente become sets of ours (``datasets.har``), one example a recording. The set is
    built in a hidden folder and renamed, so a killed run leaves nothing that reads as a set, and
    running again starts clean; a set that is already there is left as it is. ``verify=False`` admits
    files of the right form that are not the published ones (a subset, images of your own).

    Raises BadInput, one line, for an unknown name, missing, torn or unpublished files, a full or
    read-only disk, and another run at work in ``data_dir``.
    """
    _check_name(name)
    source, data_dir = Path(source), Path(data_dir)
    if ready := _ready(name, data_dir):
        return ready
    if not source.is_dir():
        raise BadInput(f"{source} is not a folder; give the folder that holds the raw files of {name}")
    content = _pictures(name, source, verify) if name in RECIPES else _recordings(name, source, verify)
    with _alone_in(data_dir):
        return _ready(name, data_dir) or _write(name, content, data_dir)


def _ready(name: str, data_dir: Path) -> Path | None:
    folder = tfds_files.find(name, data_dir)
    if folder is not None:
        progress.note(f"{name} is already in {tfds_files.Prepared(folder).folder}")
    return folder


def _check_name(name: str) -> None:
    if name not in PREPARABLE:
        close = difflib.get_close_matches(name, PREPARABLE, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose {', '.join(PREPARABLE)}"
        raise BadInput(f"no recipe prepares '{name}'; {hint}")


def _pictures(name: str, source: Path, verify: bool) -> Content:
    splits = RECIPES[name].read(source)
    for split, batch in splits.items():
        where = f"{source}: {name} {split}"
        _check_form(where, batch, RECIPES[name].shape)
        if verify:
            _check_published(where, name, split, batch)
    counts = {split: len(batch.y) for split, batch in splits.items()}
    nbytes = sum(batch.x.nbytes for batch in splits.values())
    return Content(counts, nbytes, lambda stage: tfds_files.write(name, splits, stage))


def _recordings(name: str, source: Path, verify: bool) -> Content:
    recordings = sets.from_raw(name, source, verify=verify).recordings
    nbytes = sum(each.samples.nbytes + each.activity.nbytes for each in recordings)
    write = partial(series_files.write, name, sets.SOURCES[name].about, recordings)
    return Content({series_files.SPLIT: len(recordings)}, nbytes, write)


def _check_form(where: str, batch: Batch, shape: tuple[int, int, int]) -> None:
    if not len(batch.x) or len(batch.x) != len(batch.y):
        raise BadInput(f"{where} has {len(batch.x)} images and {len(batch.y)} labels; fetch the files again")
    if batch.x.shape[1:] != shape:
        raise BadInput(f"{where} has images {list(batch.x.shape[1:])} where {list(shape)} are needed")
    if batch.y.max() > 9:
        raise BadInput(f"{where} has label {batch.y.max()}; labels are 0 to 9: fetch the files again")


def _check_published(where: str, name: str, split: str, batch: Batch) -> None:
    count, digest = RECIPES[name].published[split]
    if len(batch.x) != count:
        raise BadInput(f"{where} has {len(batch.x):,} images, published are {count:,}; fetch the missing files")
    found = _digest(batch)
    if found != digest:
        owner = next((other for other, recipe in RECIPES.items() if recipe.published[split][1] == found), None)
        what = f"these are the files of {owner}" if owner else "fetch the files again"
        raise BadInput(f"{where} is not the published data (sha256 {found[:12]}, not {digest[:12]}); {what}")


def _digest(batch: Batch) -> str:
    digest = hashlib.sha256(batch.x.tobytes())
    digest.update(batch.y.tobytes())
    return digest.hexdigest()


def _write(name: str, content: Content, data_dir: Path) -> Path:
    stage = data_dir / f".{name}.partial"
    shutil.rmtree(stage, ignore_errors=True)  # what a killed run left
    try:
        _check_space(data_dir, 2 * content.nbytes)
        written = content.write(stage)
        _check_written(written, content.counts)
        final = data_dir / written.relative_to(stage)
        final.parent.mkdir(exist_ok=True)
        os.replace(written, final)
    except OSError as error:
        why = error.strerror or error
        raise BadInput(f"cannot write {name} to {data_dir}: {why}; free space or choose another") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return final


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(
            f"{folder} has {free >> 20} MiB free and {needed >> 20} are needed; free space or choose another"
        )


def _check_written(folder: Path, expected: dict[str, int]) -> None:
    counts = tfds_files.Prepared(folder).counts
    if counts != expected:
        raise BadInput(f"{folder} holds {counts} examples instead of {expected}; free disk space and run again")


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Holds a lock on the folder itself, which the system drops when the process ends, however it ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir, os.O_RDONLY)
    except OSError as error:
        raise BadInput(f"cannot write to {data_dir}: {error.strerror}; choose another --data_dir") from error
    try:
        _lock(handle, data_dir)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, data_dir: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"another run is preparing data in {data_dir}; wait for it") from None
