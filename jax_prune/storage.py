"""Files that are whole or not there: written beside, renamed into place, checked by digest when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jax_prune import distributed
from jax_prune.errors import BadInput
from jax_prune.types import Tree

FORMAT = "1"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes ``data`` under a temporary name, then renames: nobody ever sees half a file.

    Of several processes of one run the first alone writes. Raises BadInput when the disk is full or the place cannot
    be written; the old file then stays.
    """
    if not distributed.is_first():
        return
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise BadInput(
            f"cannot write {path}: {error.strerror or error}; free space, or choose a folder you may write to"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def save_arrays(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> int:
    """A safetensors file whose header carries ``meta`` (JSON) and a SHA-256 over arrays and meta; its bytes."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(meta)
    header = {"format": FORMAT, "meta": text, "sha256": _digest(arrays, text)}
    data = safetensors.numpy.save(arrays, metadata=header)
    write_bytes(path, data)
    return len(data)


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta of ``save_arrays``. Raises BadInput for a file that is absent, truncated or altered."""
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path} is truncated or not a safetensors file ({error}); delete it and run again") from error
    if header.get("format") != FORMAT:
        raise BadInput(
            f"{path} has format {header.get('format')}, this version reads {FORMAT}; delete it and run again"
        )
    if header.get("sha256") != _digest(arrays, header.get("meta", "")):
        raise BadInput(f"{path} was altered: its digest does not match; delete it and run again")
    return arrays, json.loads(header["meta"])


def flatten_paths(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with '/'-joined paths; empty dicts keep their place as ``path/``."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    if not tree:
        return {f"{prefix}/": np.zeros(0, np.uint8)}
    join = f"{prefix}/" if prefix else ""
    return {path: leaf for name, child in tree.items() for path, leaf in flatten_paths(child, f"{join}{name}").items()}


def unflatten_paths(flat: dict[str, Any]) -> Tree:
    """The nested dicts of ``flatten_paths``."""
    tree: Tree = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            if name:
                node = node.setdefault(name, {})
        if last:
            node[last] = leaf
    return tree


def sorted_tree(tree: Tree) -> Tree:
    """Nested dicts in the order in which JAX flattens them."""
    return {name: sorted_tree(tree[name]) for name in sorted(tree)} if isinstance(tree, dict) else tree


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
