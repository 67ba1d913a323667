"""A search on disk, so that a killed one goes on in the middle: its last two states, through orbax, and all it saw.

A checkpoint is whole or not there (orbax writes beside and renames), and its files are checked by digest before orbax
reads them, since its threads print tracebacks of what they cannot read. What the search saw since the last one goes to
a file of its own, which later ones only name: a save writes as many bytes however many generations there were.
Of several processes the first one alone writes and reads, and tells the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
LOOKS = "looks"  # the folder within ours of what was seen, a file for every save: GENERATIONS.safetensors
SEPARATOR = "/"  # between the number of a look and the name of one of its arrays
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
    files: list[int] = dataclasses.field(default_factory=list)  # after how many generations each was written
    unsaved: list[Tree] = dataclasses.field(default_factory=list)

    def save(self, generations: int, state: Tree, look: Tree) -> None:
        """Writes the ``state`` after so many generations, and all looks since the last time, if it is time to."""
        if not distributed.is_first():
            return
        self.unsaved.append(look)
        if time.monotonic() - self.saved < self.seconds:
            return
        import orbax.checkpoint as orbax

        self._save_looks(generations)
        arrays = {name: np.asarray(leaf) for name, leaf in _named(state) if np.size(leaf)}  # orbax takes no empty ones
        facts = {"search": self.digest, "files": self.files}
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

    def restored(self, state: Tree, look: Tree) -> tuple[Tree, list[Tree]]:
        """The newest checkpoint that can be read, and its looks; ``state`` and none where there is no checkpoint.

        They are trees like ``state`` and ``look``. Raises BadInput where it is another search's.
        """
        arrays = self._newest() if distributed.is_first() else {}
        if distributed.count() > 1:
            arrays = safetensors.numpy.load(distributed.agreed(safetensors.numpy.save(arrays)))
        looks = [_filled(look, arrays, f"{number}{SEPARATOR}") for number in range(_count(arrays))]
        return _filled(state, arrays), looks

    def _save_looks(self, generations: int) -> None:
        arrays = {
            f"{number}{SEPARATOR}{name}": np.asarray(leaf)
            for number, look in enumerate(self.unsaved)
            for name, leaf in _named(look)
        }
        before = self.files[-1] if self.files else 0
        storage.save_arrays(self._file(generations), arrays, {"search": self.digest, "after": before})
        self.files, self.unsaved = [*self.files, generations], []

    def _looks(self, files: list[int]) -> dict[str, np.ndarray]:
        """Arrays of all looks in these files, numbered throughout. Raises where one is torn or another's."""
        arrays: dict[str, np.ndarray] = {}
        count = 0
        for before, generations in zip([0, *files], files, strict=False):
            found, facts = storage.load_arrays(self._file(generations))
            if facts != {"search": self.digest, "after": before}:
                raise ValueError(f"{self._file(generations).name} is of another search")
            for name, array in found.items():
                number, _, name = name.partition(SEPARATOR)
                arrays[f"{count + int(number)}{SEPARATOR}{name}"] = array
            count += _count(found)
        return arrays

    def _file(self, generations: int) -> Path:
        return self.folder / LOOKS / f"{generations}.safetensors"

    def _newest(self) -> dict[str, np.ndarray]:
        """State and looks by name, nothing where there is no checkpoint; files that it does not name are removed."""
        arrays = self._newest_state()
        for path in (self.folder / LOOKS).glob("*"):
            if path not in map(self._file, self.files):
                path.unlink()
        return arrays

    def _newest_state(self) -> dict[str, np.ndarray]:
        if not self.folder.exists():
            return {}
        with _manager(self.folder) as manager:
            for generations in sorted(manager.all_steps(), reverse=True):
                try:
                    _check_files(self.folder / str(generations))
                    arrays, facts = _read(manager, generations)
                    if facts["search"] == self.digest:
                        arrays |= self._looks(facts["files"])
                        self.files = facts["files"]
                except Exception as error:  # whatever orbax meets in one of another version
                    what = f"the checkpoint of generation {generations} in {self.folder} cannot be read"
                    progress.note(f"{what} ({shorten(said(error), 100)}): deleted, going on from before")
                    manager.delete(generations)
                    continue
                if facts["search"] != self.digest:
                    raise BadInput(
                        f"{self.folder} holds a checkpoint of another search: give each its own folder, or delete it"
                    )
                return arrays
        return {}


def _manager(folder: Path) -> Any:
    import orbax.checkpoint as orbax

    folder.mkdir(parents=True, exist_ok=True)
    alone = orbax.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    options = orbax.CheckpointManagerOptions(
        max_to_keep=KEPT, create=False, cleanup_tmp_directories=True, enable_async_checkpointing=False,
        multiprocessing_options=alone if distributed.count() > 1 else orbax.options.MultiprocessingOptions(),
    )  # fmt: skip
    return orbax.CheckpointManager(folder.absolute(), options=options)


def _read(manager: Any, generations: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a state by name, and the facts beside them."""
    import orbax.checkpoint as orbax

    arguments = {"arrays": orbax.args.PyTreeRestore(), "facts": orbax.args.JsonRestore()}
    found = manager.restore(generations, args=orbax.args.Composite(**arguments))
    return {name: np.asarray(array) for name, array in found["arrays"].items()}, found["facts"]


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


def _count(arrays: dict[str, np.ndarray]) -> int:
    """How many looks these arrays are of."""
    return len({name.partition(SEPARATOR)[0] for name in arrays if SEPARATOR in name})


def _filled(like: Tree, arrays: dict[str, np.ndarray], prefix: str = "") -> Tree:
    """A tree like ``like`` of the arrays that have its leaves' names, after the ``prefix``."""
    leaves = [arrays.get(prefix + name, leaf) for name, leaf in _named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


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
