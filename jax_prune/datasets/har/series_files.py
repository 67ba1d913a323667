"""Sets of recordings on disk: TFDS builders of ours, one example a recording, in the order of their source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_prune import progress
from jax_prune.datasets import tfds_files
from jax_prune.datasets.har.series import Recording

VERSION = "1.0.0"
SPLIT = "train"  # the one split: who trains and who tests is the protocol's to say


def write(name: str, about: str, recordings: Sequence[Recording], stage: Path) -> Path:
    """Writes the set ``name`` below ``stage`` and returns its folder ``stage/name/version``.

    ``about`` (what it is, its licence) goes into the set's description. Raises OSError when the disk is full or fails.
    """
    with tfds_files.quiet(), progress.bar(f"prepare {name}", len(recordings)) as advance:
        builder = _builder(name, about, recordings, advance)(data_dir=os.fspath(stage), file_format=tfds_files.FORMAT)
        tfds_files.run(builder, stage)
    return Path(builder.data_dir)


def read(folder: Path) -> list[Recording]:
    """The recordings of a set that ``write`` made. Raises BadInput for files that are missing or damaged."""
    with tfds_files.damage(folder), tfds_files.quiet():
        builder = tfds_files.tfds_module().core.read_only_builder.builder_from_directory(os.fspath(folder))
        source = builder.as_data_source(split=SPLIT)
        return [_recording(source[index]) for index in range(len(source))]


def _recording(example: dict[str, Any]) -> Recording:
    samples, activity = np.asarray(example["samples"]), np.asarray(example["activity"])
    if samples.dtype != np.float32 or samples.ndim != 2 or activity.shape != (len(samples),):
        raise ValueError(f"a recording has samples {samples.dtype} {list(samples.shape)}")
    return Recording(samples, activity, int(example["subject"]))


def _builder(name: str, about: str, recordings: Sequence[Recording], advance: Any) -> Any:
    tfds = tfds_files.tfds_module()

    def info(self: Any) -> Any:
        features = {
            "samples": tfds.features.Tensor(shape=(None, recordings[0].samples.shape[1]), dtype=np.float32),
            "activity": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "subject": tfds.features.Scalar(np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=about,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("samples", "activity"),
            disable_shuffling=True,
        )

    def generate() -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (samples, activity, subject) in enumerate(recordings):
            yield index, {"samples": samples, "activity": activity, "subject": subject}
            advance()

    body = {
        "name": name,
        "VERSION": tfds.core.Version(VERSION),
        "_info": info,
        "_split_generators": lambda self, downloads: {SPLIT: generate()},
        "_generate_examples": lambda self: generate(),
        **tfds_files.OFFLINE,
    }
    with tfds.core.registered.skip_registration():
        return type(name, (tfds.core.GeneratorBasedBuilder,), body)
