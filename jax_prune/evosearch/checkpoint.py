"""A search on disk, so that a killed one goes on in the middle: the last two looks of the host, through orbax.

A checkpoint is whole or not there (orbax writes beside and renames), and its files are checked by digest before orbax
reads them, since its threads print tracebacks of what they cannot read. Of several processes the first one alone writes
and reads, and tells the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jax_prune import distributed, progress, storage
from jax_prune.errors import BadInput, said
from jax_prune.types import Array, Tree

OURS = "evosearch"  # the folder within the one given that holds checkpoints and nothing else: others' are never touched
KEPT = 2  # checkpoints: should the newest be torn, the one before it is there
SUM = "files.sha256"  # in a checkpoint: of all its other files
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest(key: Array, config: Any, *inputs: Any) -> str:
    """SHA-256 of all that a search depends on: its config, its inputs' structures, and every array in them.

    Functions count by their names alone; so a plain function's constants do not count.
    """
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    leaves, structure = jax.tree.flatten((data, inputs))
    return _digest(f"{config}{ADDRESS.sub('', str(structure))}", leaves)


@dataclasses.dataclass
class Keeper:
    """Saves what a search has come to in ``folder``, at most every ``seconds``."""

    folder: Path
    digest: str
    seconds: float
    saved: float = dataclasses.field(default_factory=time.monotonic)

    def save(self, generations: int, tree: Tree) -> None:
        """Writes the arrays of ``tree`` as what there is after so many generations, if it is time to."""
        if not distributed.is_first() or time.monotonic() - self.saved < self.seconds:
            return
        import orbax.checkpoint as orbax

        arrays = {name: np.asarray(leaf) for name, leaf in _named(tree) if np.size(leaf)}  # orbax takes no empty ones
        facts = {"search": self.digest}
        try:
            with _manager(self.folder) as manager:
                arguments = {"arrays": orbax.args.PyTreeSave(arrays), "facts": orbax.args.JsonSave(facts)}
                manager.save(generations, args=orbax.args.Composite(**arguments), force=True)
            saved = self.folder / str(generations)
            storage.write_text(saved / SUM, _of_files(saved))
        except OSError as error:
            raise BadInput(
                f"cannot write a checkpoint to {self.folder}: {error.strerror or error}; free space"
            ) from error
        self.saved = time.monotonic()

    def restored(self, like: Tree) -> Tree | None:
        """The newest checkpoint that can be read, as a tree like ``like``; None where there is none.

        Raises BadInput where it is another search's.
        """
        arrays = self._newest() if distributed.is_first() else None
        if distributed.count() > 1:
            arrays = _agreed(arrays)
        if arrays is None:
            return None
        leaves = [arrays.get(name, leaf) for name, leaf in _named(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _newest(self) -> dict[str, np.ndarray] | None:
        if not self.folder.exists():
            return None
        with _manager(self.folder) as manager:
            for generations in sorted(manager.all_steps(), reverse=True):
                try:
                    _check_files(self.folder / str(generations))
                    arrays, search = _read(manager, generations)
                except Exception as error:  # whatever orbax meets in one of another version
                    what = f"the checkpoint of generation {generations} in {self.folder} cannot be read"
                    progress.note(f"{what} ({shorten(said(error), 100)}): deleted, going on from before")
                    manager.delete(generations)
                    continue
                if search != self.digest:
                    raise BadInput(
                        f"{self.folder} holds a checkpoint of another search: give each its own folder, or delete it"
                    )
                return arrays
        return None


def _manager(folder: Path) -> Any:
    import orbax.checkpoint as orbax

    folder.mkdir(parents=True, exist_ok=True)
    alone = orbax.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    options = orbax.CheckpointManagerOptions(
        max_to_keep=KEPT, create=False, cleanup_tmp_directories=True, enable_async_checkpointing=False,
        multiprocessing_options=alone if distributed.count() > 1 else orbax.options.MultiprocessingOptions(),
    )  # fmt: skip
    return orbax.CheckpointManager(folder.absolute(), options=options)


def _read(manager: Any, generations: int) -> tuple[dict[str, np.ndarray], str]:
    """Arrays by name, and the digest of their search."""
    import orbax.checkpoint as orbax

    arguments = {"arrays": orbax.args.PyTreeRestore(), "facts": orbax.args.JsonRestore()}
    found = manager.restore(generations, args=orbax.args.Composite(**arguments))
    return {name: np.asarray(array) for name, array in found["arrays"].items()}, found["facts"]["search"]


def _check_files(saved: Path) -> None:
    """Raises ValueError where the files of a checkpoint are not what was saved."""
    if not (saved / SUM).is_file() or (saved / SUM).read_bytes() != _of_files(saved).encode():
        raise ValueError("its digest does not match")


def _of_files(saved: Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files, its sum aside."""
    hashed = hashlib.sha256()
    for path in sorted(path for path in saved.rglob("*") if path.is_file() and path.name != SUM):
        data = path.read_bytes()
        hashed.update(f"{path.relative_to(saved)}:{len(data)};".encode())
        hashed.update(data)
    return hashed.hexdigest()


def _agreed(arrays: dict[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """The first process's arrays, in all of them."""
    if json.loads(distributed.agreed(json.dumps(arrays is None).encode())):
        return None
    return safetensors.numpy.load(distributed.agreed(safetensors.numpy.save(arrays or {})))


def _named(tree: Tree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf


def _digest(text: str, leaves: list[Any]) -> str:
    hashed = hashlib.sha256(text.encode())
    for leaf in leaves:
        array = np.asarray(leaf)
        hashed.update(f"{array.dtype}{array.shape};".encode())
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
