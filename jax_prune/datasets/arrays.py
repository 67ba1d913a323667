"""Users' own data: arrays as they are, or an iterable of batches stacked into arrays once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from jax_prune.datasets.checks import check
from jax_prune.errors import BadInput
from jax_prune.types import Batch, Tree

# 64-bit leaves become what JAX computes with by default, on the host and with their range checked.
NARROWED = {"float64": np.float32, "complex128": np.complex64, "int64": np.int32, "uint64": np.uint32}


def from_arrays(x: Tree, y: Tree, *, classes: int | None = None, name: str = "data") -> Batch:
    """A checked Batch of host arrays with leading axis B.

    ``x`` and ``y`` are arrays, or dicts or tuples of arrays; a *list* is stacked into one array.
    float64, int64 and uint64 become 32-bit, other dtypes stay. ``classes`` demands that y be
    integer labels [B] in [0, classes). Raises BadInput for anything ``check`` refuses, for values
    that are not numbers or do not fit 32 bits, and for ragged lists.
    """
    return check(Batch(_to_arrays(x, f"{name}: x"), _to_arrays(y, f"{name}: y")), classes=classes, name=name)


def from_batches(
    batches: Iterable[Any], *, classes: int | None = None, examples: int | None = None, name: str = "data"
) -> Batch:
    """Stacks an iterable of ``(x, y)`` pairs (a Batch is one) into a single checked Batch.

    Every pair has a leading batch axis, which may differ in length (a short last batch). Reading
    stops once ``examples`` have come, so an endless stream needs ``examples``. Raises BadInput as
    ``from_arrays`` does, and when two batches differ in structure, shape or dtype.
    """
    parts, total = [], 0
    for index, item in enumerate(batches):
        parts.append(_one_batch(item, f"{name}: batch {index}"))
        total += len(jax.tree.leaves(parts[-1].x)[0])
        if examples is not None and total >= examples:
            break
    if not parts:
        raise BadInput(f"{name}: the iterable gave no batch (an iterator can be read only once); give a fresh one")
    _check_alike(parts, name)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:examples], *parts)
    return check(stacked, classes=classes, name=name)


def _one_batch(item: Any, where: str) -> Batch:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BadInput(f"{where} is {_kind(item)}; an iterable of batches must give (x, y) pairs")
    return from_arrays(*item, name=where)


def _kind(item: Any) -> str:
    return f"{type(item).__name__} of length {len(item)}" if hasattr(item, "__len__") else type(item).__name__


def _check_alike(parts: list[Batch], name: str) -> None:
    forms = [(jax.tree.structure(part), [(a.shape[1:], a.dtype) for a in jax.tree.leaves(part)]) for part in parts]
    for index, (before, after) in enumerate(pairwise(forms), start=1):
        if before != after:
            raise BadInput(
                f"{name}: batch {index} differs from batch {index - 1} in structure, shape or dtype "
                f"({_form(after[1])} after {_form(before[1])}); make all batches alike"
            )


def _form(leaves: list[tuple[tuple[int, ...], np.dtype[Any]]]) -> str:
    return ", ".join(f"{dtype}[B{''.join(f', {length}' for length in shape)}]" for shape, dtype in leaves)


def _to_arrays(tree: Tree, where: str) -> Tree:
    return jax.tree.map(lambda leaf: _to_array(leaf, where), tree, is_leaf=lambda node: isinstance(node, list))


def _to_array(leaf: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where} cannot be made one array ({error}); give arrays of one shape") from error
    if array.dtype.kind in "OSUMmT":
        raise BadInput(f"{where} holds {array.dtype} values; give numbers in arrays of one shape")
    return _narrow(array, where)


def _narrow(array: np.ndarray, where: str) -> np.ndarray:
    dtype = NARROWED.get(array.dtype.name)
    if dtype is None or not array.size:
        return array if dtype is None else array.astype(dtype)
    if array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise BadInput(f"{where} holds integers beyond {np.dtype(dtype).name}; renumber them")
    with np.errstate(over="ignore"):
        return array.astype(dtype)
