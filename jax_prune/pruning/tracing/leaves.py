"""The axes of a net's parameters and state, whose positions are what can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_prune.pruning.tracing.labels import FREE, Axis, Value
from jax_prune.pruning.tracing.ledger import Ledger


class LeafAxis(NamedTuple):
    """One axis of a leaf: its positions are the ids ``first`` to ``first + size - 1``."""

    path: str
    state: bool
    axis: int
    size: int
    first: int


def label(ledger: Ledger, tree: Any, state: bool) -> tuple[list[Value], list[LeafAxis]]:
    """A value for every leaf, in the order in which JAX flattens ``tree``, each of its axes with units of its own.

    An axis of one position has none: its last unit has to stay. A masked parameter is zero at a dead unit.
    """
    values, found = [], []
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path, axes = "/".join(str(key.key) for key in keys), []
        for place, size in enumerate(np.shape(leaf)):
            if size < 2:
                axes.append(FREE)
                continue
            axis = Axis(ledger.fresh(size), zero=not state)
            assert axis.ids is not None
            found.append(LeafAxis(path, state, place, size, int(axis.ids[0])))
            axes.append(axis)
        values.append(Value(tuple(axes)))
    return values, found


def positions(axes: Sequence[LeafAxis]) -> tuple[np.ndarray, np.ndarray]:
    """For every id of a leaf the index of its axis in ``axes`` and its position there: two int64 [N]."""
    sizes = [axis.size for axis in axes]
    which = np.repeat(np.arange(len(axes)), sizes)
    return which, np.arange(len(which)) - np.repeat([axis.first for axis in axes], sizes)
