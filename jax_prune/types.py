"""The shapes everything speaks: a network, its prunable groups, their bounds, a batch.

Named lengths used throughout the package:

    G  groups            n_g  units of group g      P  candidates (population)
    B  examples          T    generations           K  points of a sensitivity curve

One index, g: ``groups[g]``, ``ratios[g]``, ``ranks[g]``, ``kept[g]``, ``bounds.lower[g]`` and
row g of the report all speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
from jax.typing import ArrayLike

Array = jax.Array
Tree = Any  # nested dicts whose leaves are arrays
Masks = Any  # exactly the tree of params; every leaf broadcasts against its parameter


class Batch(NamedTuple):
    """Examples with their targets; both may be pytrees of arrays with leading axis B."""

    x: Any
    y: Any


class Net(flax.struct.PyTreeNode):
    """A network as a pure function with its parameters: all that the package ever sees.

    ``apply(params, state, x, *, train, key) -> (outputs, state)`` is pure; ``x`` has leading
    axis B, ``train`` is a static bool, ``key`` a PRNG key or None (then nothing is random).
    ``params`` and ``state`` are nested dicts with string keys. ``rebuild(params, state)`` gives
    the user's own object back: an nnx.Module, or Linen variables. ``apply`` and ``rebuild`` are
    static and compare equal for equal architectures, so new weights never recompile anything.
    """

    params: Tree
    state: Tree
    apply: Callable[..., tuple[Any, Tree]] = flax.struct.field(pytree_node=False)
    rebuild: Callable[[Tree, Tree], Any] = flax.struct.field(pytree_node=False)

    def __call__(self, x: Any) -> Any:
        """Outputs in evaluation mode; leading axis B as in ``x``."""
        return self.apply(self.params, self.state, x, train=False, key=None)[0]


class Slot(NamedTuple):
    """Where a group's units appear in one leaf of the parameter tree, or of the ``state`` (batch statistics).

    ``axis`` an int: unit u sits at ``{s + u * step for s in starts}`` of that axis.
    ``axis`` None: every entry of the leaf is a unit of its own, in C order, and the leaf's first
    entry is unit ``starts[0]`` of the group (so a kernel and its bias can share one group).
    """

    path: str
    axis: int | None = None
    starts: tuple[int, ...] = (0,)
    step: int = 1
    state: bool = False


class Pattern(NamedTuple):
    """Tiles of r x c entries of a group's kernels, as matrices [inputs, outputs]: see ``pruning.patterns``.

    ``together``: a tile lives or dies whole; otherwise every tile keeps equally many entries.
    """

    shapes: tuple[tuple[int, int], ...]  # of each slot
    tile: tuple[int, int]
    together: bool


class Group(NamedTuple):
    """Units that share one pruning ratio; static and hashable. ``size`` is n_g, the unit count.

    Kept counts are multiples of ``step``, or the whole group; groups with the same name in ``tied`` have one ratio
    in common, up to whole steps, each with its own ranking. With a ``pattern`` no unit is ranked alone.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    step: int = 1
    tied: str = ""
    pattern: Pattern | None = None


class Bounds(NamedTuple):
    """Box of allowed pruning ratios (fraction of units removed): two float32 arrays [G] in [0, 1]."""

    lower: ArrayLike
    upper: ArrayLike
