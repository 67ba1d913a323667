"""A run as stages on disk: each computed once, saved whole or not at all, read back when present."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from jax_prune import distributed, storage
from jax_prune.errors import BadInput
from jax_prune.types import Array, Tree

UNFINISHED = ".unfinished"


class Stage(NamedTuple):
    """What a stage gives: ``arrays``, nested dicts of NumPy arrays, and ``facts``, JSON values."""

    arrays: Tree
    facts: dict[str, Any]


class Stages:
    """The stages of one run under ``folder``, or in memory only where ``folder`` is None.

    A killed run that is started again finds its finished stages and goes on with the next. Each stage
    file carries a digest, so a truncated or altered one is refused rather than used. Of several processes
    (``distributed``) all compute, the first alone reads and writes, and all go on with what the first one has.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, config: dict[str, Any]):
        """Claims ``folder`` for ``config``; raises BadInput where it holds a run of another config."""
        self.folder = None if folder is None else Path(folder)
        self.seconds: dict[str, float] = {}
        self._prefix = ""
        self._known: dict[str, Stage] = {}
        if self.folder is not None and distributed.is_first():
            _claim(self.folder, config)

    def within(self, name: str) -> Stages:
        """Stages of the same run under the folder ``name``; their seconds are counted here too."""
        inner = Stages(None, {})
        inner.folder = None if self.folder is None else self.folder / name
        inner.seconds, inner._prefix = self.seconds, f"{self._prefix}{name}/"
        return inner

    def __call__(self, name: str, compute: Callable[[], Stage]) -> Stage:
        """The stage called ``name``, such as ``round_1/search``: read if present, else computed and saved."""
        if name not in self._known:
            self._known[name] = self._read_or_compute(name, compute)
        return self._known[name]

    def scratch(self, name: str, part: str) -> Path | None:
        """A folder for a ``part`` of what the stage ``name`` has found so far; gone once the stage is saved."""
        return None if self.folder is None else self.folder / f"{name}{UNFINISHED}" / part

    def _read_or_compute(self, name: str, compute: Callable[[], Stage]) -> Stage:
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        found = _agreed(_read(path) if path is not None and distributed.is_first() else None)
        if found is not None:
            self._tidy(name)
            self.seconds[self._prefix + name] = found.facts.pop("seconds")
            return found
        start, before = time.perf_counter(), sum(self.seconds.values())
        arrays, facts = compute()
        arrays = jax.tree.map(np.asarray, arrays)
        facts = json.loads(json.dumps(facts))
        # a stage that was computed within this one has its own entry
        seconds = max(0.0, time.perf_counter() - start - (sum(self.seconds.values()) - before))
        self.seconds[self._prefix + name] = seconds
        if path is not None:
            storage.save_arrays(path, storage.flatten_paths(arrays), facts | {"seconds": seconds})
            self._tidy(name)
        computed = _agreed(Stage(arrays, facts))
        assert computed is not None
        return computed

    def _tidy(self, name: str) -> None:
        if self.folder is not None and distributed.is_first():
            shutil.rmtree(self.folder / f"{name}{UNFINISHED}", ignore_errors=True)


def stage_key(key: Array, name: str) -> Array:
    """The stage's own random key: ``fold_in`` of the CRC-32 of its UTF-8 name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds ``folder`` for this run alone; raises BadInput where another run is at work in it."""
    import fcntl

    if not distributed.is_first():
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = open(Path(folder) / ".lock", "w")  # noqa: SIM115 - held for as long as the run
    except OSError as error:
        raise BadInput(f"cannot write to --workdir {folder}: {error.strerror}; choose another") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"another run is at work in {folder}; wait for it or choose another --workdir") from error
        for leftover in Path(folder).rglob(".*.part"):  # of a run that was killed while saving
            leftover.unlink()
        yield


def _read(path: Path) -> Stage | None:
    """The stage at ``path``, its seconds among the facts; None where there is none."""
    if not path.exists():
        return None
    flat, facts = storage.load_arrays(path)
    return Stage(storage.unflatten_paths(flat), facts)


def _agreed(stage: Stage | None) -> Stage | None:
    """The first process's stage, in all of them: what is timed, or computed on other hardware, may differ."""
    if distributed.count() == 1:
        return stage
    facts = json.loads(distributed.agreed(json.dumps(None if stage is None else stage.facts).encode()))
    if facts is None:
        return None
    flat = {} if stage is None else storage.flatten_paths(stage.arrays)
    data = safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in flat.items()})
    return Stage(storage.unflatten_paths(safetensors.numpy.load(distributed.agreed(data))), facts)


def refuse_other(folder: str | os.PathLike[str], config: dict[str, Any]) -> None:
    """Raises BadInput where ``folder`` holds a run of another config, or one that cannot be read; writes nothing."""
    path = Path(folder) / "config.json"
    if not distributed.is_first() or not path.exists():
        return
    way_out = "delete it and run the same command again, or choose another --workdir"
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): {way_out}") from error
    if not isinstance(before, dict):
        raise BadInput(f"{path} holds no settings: {way_out}")
    now = json.loads(json.dumps(config))
    study, other = now.get("study"), before.setdefault("study", now.get("study"))  # older runs do not say
    if other != study:
        raise BadInput(f"{folder} holds a run of '{other}', not '{study}'; choose another --workdir")
    changed = [name for name in sorted(now | before) if now.get(name) != before.get(name)]
    if changed:
        shown = ", ".join(
            f"{name}={before[name]!r}, not {now.get(name)!r}" if name in before else f"no setting {name} yet"
            for name in changed[:3]
        )
        more = f" ({len(changed) - 3} more)" if len(changed) > 3 else ""
        raise BadInput(f"{folder} holds a run with {shown}{more}; choose another --workdir or the same settings")


def _claim(folder: Path, config: dict[str, Any]) -> None:
    refuse_other(folder, config)
    if not (folder / "config.json").exists():
        storage.write_json(folder / "config.json", config)
