"""Is this data fit to learn from? Every complaint is one line that says where and what to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.types import Batch


def check(batch: Batch, *, classes: int | None = None, name: str = "data") -> Batch:
    """Returns ``batch`` (NumPy or JAX arrays, leading axis B) unchanged, or raises BadInput.

    Refused: no examples; leaves whose leading axes differ; NaN or infinity; and, where ``classes``
    is given, a y that is not an integer array [B] with values in [0, classes).
    """
    leaves = _named_leaves(batch)
    _check_lengths(leaves, name)
    for path, leaf in leaves:
        _check_finite(leaf, f"{name}: {path}")
    if classes is not None:
        _check_labels(batch.y, classes, name)
    return batch


def _named_leaves(batch: Batch) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def _check_lengths(leaves: list[tuple[str, Any]], name: str) -> None:
    for part in ("x", "y"):
        if not any(path.startswith(part) for path, _ in leaves):
            raise BadInput(f"{name}: {part} holds no array; give arrays with examples along the first axis")
    for path, leaf in leaves:
        if not np.ndim(leaf):
            raise BadInput(f"{name}: {path} is a single value; examples must lie along the first axis")
    lengths = {path: len(leaf) for path, leaf in leaves}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise BadInput(f"{name}: {counts} examples; every array needs the same number along its first axis")
    if not next(iter(lengths.values())):
        raise BadInput(f"{name}: there are no examples (length 0); give at least one")


def _check_finite(leaf: Any, where: str) -> None:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return
    bad = ~np.isfinite(np.asarray(leaf))
    if bad.any():
        first = int(bad.reshape(len(leaf), -1).any(axis=1).argmax())
        raise BadInput(
            f"{where} has {int(bad.sum())} NaN or infinite value(s), the first in example {first}; "
            "repair or drop those examples"
        )


def _check_labels(y: Any, classes: int, name: str) -> None:
    if not hasattr(y, "dtype") or not jnp.issubdtype(y.dtype, jnp.integer) or np.ndim(y) != 1:
        kind = f"{y.dtype} {list(np.shape(y))}" if hasattr(y, "dtype") else type(y).__name__
        raise BadInput(f"{name}: y is {kind}; labels must be one integer array [B] with values 0 to {classes - 1}")
    labels = np.asarray(y)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        raise BadInput(
            f"{name}: {int(wrong.sum())} label(s) outside 0 to {classes - 1}, the first is {labels[first]} "
            f"in example {first}; number the classes from 0, or state the right number of classes"
        )
