"""What each example is for: training, choosing, or the one reading for the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from jax_prune.errors import BadInput
from jax_prune.types import Batch

VALIDATION_EXAMPLES = 5_000


class Splits(NamedTuple):
    """A data set. ``test`` is a function so that nothing but the report reads the test examples.

    ``train`` and ``validation`` are Batches of NumPy arrays (x [B, ...], y [B, ...]); ``test()``
    loads a Batch of the same form at each call. ``classes`` is None where y are not labels.
    """

    train: Batch
    validation: Batch
    test: Callable[[], Batch]
    classes: int | None = None
    name: str = "data"


def hold_out(batch: Batch, examples: int | None = None) -> tuple[Batch, Batch]:
    """Splits off the last ``examples`` (default: 5,000, at most a tenth): (train, validation).

    The order is kept: shuffle before if the examples are sorted by label. The two Batches are
    views of the arrays given. Raises BadInput when one of the two would be empty.
    """
    total = len(jax.tree.leaves(batch.x)[0])
    count = min(VALIDATION_EXAMPLES, max(1, total // 10)) if examples is None else examples
    if not 0 < count < total:
        raise BadInput(f"cannot hold {count} of {total} examples out: choose between 1 and {total - 1}")
    train, validation = (jax.tree.map(lambda a, part=part: a[part], batch) for part in _parts(total - count))
    return train, validation


def _parts(border: int) -> tuple[slice, slice]:
    return slice(None, border), slice(border, None)
