"""``load(name)``: the smartwatch set from the package, the others from what ``jax-prune data prepare`` wrote."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jax_prune import progress
from jax_prune.datasets import tfds_files
from jax_prune.datasets.har import hapt, series_files, utwente, watch
from jax_prune.datasets.har.series import Recording, Recordings, gather
from jax_prune.errors import BadInput


class Source(NamedTuple):
    """A set that is prepared from raw files: how they are read, what the numbers mean, whose it is.

    ``published``: number of recordings and ``digest`` of the published set, where they are known. ``caution``: what a
    report on the set should say, also said when it is loaded.
    """

    read: Callable[[Path], list[Recording]]
    activities: tuple[str, ...]
    channels: tuple[str, ...]
    rate: float
    scenarios: Mapping[str, tuple[str, ...]]
    about: str
    digest: Callable[[Sequence[Recording]], str] | None = None
    published: tuple[int, str] | None = None
    caution: str = ""


SOURCES = {
    "hapt": Source(
        hapt.read_folder,
        hapt.ACTIVITIES,
        hapt.CHANNELS,
        hapt.RATE,
        hapt.SCENARIOS,
        hapt.ABOUT,
        hapt.digest,
        (hapt.COUNT, hapt.SHA256),
    ),
    "utwente": Source(
        utwente.read_folder,
        utwente.ACTIVITIES,
        utwente.CHANNELS,
        utwente.RATE,
        utwente.SCENARIOS,
        utwente.ABOUT,
        caution=utwente.CAUTION,
    ),
}
NAMES = ("watch", *SOURCES)


def load(name: str = "watch", *, data_dir: str | os.PathLike[str] | None = None) -> Recordings:
    """The set ``name``: "watch" is embedded, "hapt" and "utwente" lie below ``data_dir`` (default: tfds's own).

    Raises BadInput, one line, for an unknown name, a set that is not there (with the command that prepares it), and
    damaged files.
    """
    if name == "watch":
        return watch.load()
    if name not in SOURCES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        raise BadInput(f"no set of recordings is named '{name}'; choose {close[0] if close else ', '.join(NAMES)}")
    where = tfds_files.default_folder() if data_dir is None else Path(data_dir)
    folder = tfds_files.find(name, where)
    if folder is None:
        raise BadInput(f"{name} is not in {where}; run: jax-prune data prepare {name} --from DIR --data_dir {where}")
    if said := caution(name):
        progress.note(f"{name}: {said}")
    return described(name, series_files.read(folder))


def caution(name: str) -> str:
    """What a report on the set ``name`` should say of it; empty for most."""
    return SOURCES[name].caution if name in SOURCES else ""


def described(name: str, recordings: Sequence[Recording]) -> Recordings:
    """Recordings of the set ``name`` with what is known of it, checked."""
    source = SOURCES[name]
    return gather(
        recordings,
        activities=source.activities,
        channels=source.channels,
        rate=source.rate,
        scenarios=source.scenarios,
        name=name,
    )


def from_raw(name: str, folder: Path, *, verify: bool) -> Recordings:
    """The recordings of raw files. Raises BadInput as the readers do, and for other recordings than the published."""
    source = SOURCES[name]
    data = described(name, source.read(folder))
    if verify and source.published and source.digest:
        count, digest = source.published
        found = source.digest(data.recordings)
        if found != digest:
            raise BadInput(
                f"{folder} is not the published {name}: {len(data.recordings)} recordings of {count}, sha256 "
                f"{found[:12]}, not {digest[:12]}; fetch the files again, or take them as they are with "
                f"datasets.prepare('{name}', ..., verify=False)"
            )
    return data
