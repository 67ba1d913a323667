"""``load(name)``: MNIST from the package, every other set from its TFDS files on disk."""

from __future__ import annotations

import difflib
import os
import re
from functools import partial
from pathlib import Path

from jax_prune.datasets import har, mnist, tfds_files
from jax_prune.datasets.checks import check
from jax_prune.datasets.preparation import PREPARABLE
from jax_prune.datasets.splits import Splits, hold_out
from jax_prune.errors import BadInput
from jax_prune.types import Batch


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """The data set ``name``; train and validation in memory, test behind a function.

    ``"mnist"`` without ``data_dir`` is embedded: 55,000 / 5,000 / 10,000 images uint8
    [B, 28, 28, 1], labels int32 [B]; the last 5,000 of the published training file validate.
    Any other name, and mnist with a ``data_dir``, is read from TFDS array_record files below
    ``data_dir`` (default: tfds's own), ``name[/config][:version]``, supervised pairs, any set
    whose examples have one shape and fit in memory. Without an official validation split the last
    5,000 training examples (at most a tenth) validate; they are not in the embedded set's order,
    since tfds shuffles when it writes. No TensorFlow is imported, nothing is downloaded.

    Raises BadInput, one line, for an unknown name (with the close ones), a set that is not on disk
    (with the command that prepares it), damaged files, and sets without the splits needed.
    """
    if name == "mnist" and data_dir is None:
        return mnist.splits()
    if re.split("[/:]", name)[0] in har.NAMES:
        raise BadInput(f"{name} is a set of recordings, not yet of examples: load it with datasets.har.load and cut it")
    where = None if data_dir is None else Path(data_dir)
    folder = tfds_files.find(name, where)
    if folder is None:
        raise _absent(name, where or tfds_files.default_folder())
    return _from_tfds(name, tfds_files.Prepared(folder))


def _from_tfds(name: str, prepared: tfds_files.Prepared) -> Splits:
    test = next((split for split in ("test", "validation") if prepared.counts.get(split)), None)
    if test is None or not prepared.counts.get("train"):
        raise BadInput(
            f"{name} in {prepared.folder} has the splits {sorted(prepared.counts)}; a train and a test split "
            "are needed: slice it yourself and use datasets.from_arrays"
        )
    read = partial(_read, name, prepared)
    if test == "test" and prepared.counts.get("validation"):
        train, validation = read("train"), read("validation")
    else:
        train, validation = hold_out(read("train"))
    return Splits(train, validation, partial(read, test), prepared.classes, name)


def _read(name: str, prepared: tfds_files.Prepared, split: str) -> Batch:
    return check(prepared.read(split), classes=prepared.classes, name=f"{name} {split}")


def _absent(name: str, folder: Path) -> BadInput:
    base = re.split("[/:]", name)[0]
    if base in PREPARABLE:
        embedded = " (or leave data_dir out: mnist is embedded)" if base == "mnist" else ""
        command = f"jax-prune data prepare {base} --from DIR --data_dir {folder}"
        return BadInput(f"{name} is not in {folder}; run: {command}{embedded}")
    known = tfds_files.known_names()
    if base in known:
        return BadInput(
            f"{name} is not in {folder}; where TensorFlow is installed run: "
            f"tfds build {name} --file_format=array_record --data_dir={folder}"
        )
    close = difflib.get_close_matches(base, {*PREPARABLE, *known}, n=4) or PREPARABLE
    return BadInput(f"unknown data set '{name}' and none such in {folder}; did you mean {', '.join(close)}?")
