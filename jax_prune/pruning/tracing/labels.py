"""What is known of every axis of every value in a program: which units lie along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

NO_UNIT_INPUT = "the network's input"
NO_UNIT_CONSTANT = "a constant that varies along it"


class Axis(NamedTuple):
    """One axis of n positions.

    ``ids`` int64 [n] are its units, several positions may share one; where it has none, ``what`` says what it is
    instead (batch, space, a table of constants), and an empty ``what`` that the value is constant along it. ``zero``:
    what stands at a masked unit is zero for certain, as in a kernel.
    """

    ids: np.ndarray | None = None
    zero: bool = False
    what: str = ""

    @property
    def free(self) -> bool:
        """The value is the same at every position."""
        return self.ids is None and not self.what


class Value(NamedTuple):
    """``data``: it depends on the network's input; ``zero``: it is zero throughout, whatever the parameters."""

    axes: tuple[Axis, ...]
    data: bool = False
    zero: bool = False

    def zero_along(self, axis: int) -> bool:
        """At masked units of that axis, or of any axis that another operand labels, the value is zero."""
        return self.zero or (bool(self.axes) and self.axes[axis].zero)


FREE = Axis()


def fixed(what: str) -> Axis:
    """An axis without units."""
    return Axis(what=what)


def all_fixed(shape: Sequence[int], what: str, data: bool) -> Value:
    """A value none of whose axes has units."""
    return Value(tuple(fixed(what) if size > 1 else FREE for size in shape), data)


def of_constant(array: Any) -> Value:
    """Uniform axes are free, the others no units."""
    try:
        values = np.asarray(array)
    except TypeError:  # random keys
        return all_fixed(np.shape(array), NO_UNIT_CONSTANT, False)
    if values.dtype == object or not math.prod(values.shape):
        return all_fixed(values.shape, NO_UNIT_CONSTANT, False)
    axes = tuple(
        FREE if bool((values == values.take([0], axis)).all()) else fixed(NO_UNIT_CONSTANT)
        for axis in range(values.ndim)
    )
    return Value(axes, False, not np.any(values))
