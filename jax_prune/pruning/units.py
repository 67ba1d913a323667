"""What the units of channel groups are made of: sums over their entries, who makes them, how much of a leaf they hold.

Slots in the state, as batch statistics have them, do not count here.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.pruning import layouts
from jax_prune.pruning.channels import is_channels, positions
from jax_prune.types import Array, Group, Slot, Tree

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
KERNEL_AXES = 2  # leaves of fewer axes are biases and norms


def shapes_of(params: Tree) -> Shapes:
    """Of every leaf, by path; leaves may be arrays or ``jax.ShapeDtypeStruct``."""
    flat = storage.flatten_paths(params)
    return {path: tuple(leaf.shape) for path, leaf in flat.items() if not path.endswith("/")}


def slots(shapes: Shapes, group: Group) -> tuple[Slot, ...]:
    """The group's slots in parameters. Raises BadInput for groups of single entries, and for a path that is no leaf."""
    if not is_channels(group):
        raise BadInput(f"group {group.name} has single entries as units: give channel groups alone")
    found = tuple(slot for slot in group.slots if not slot.state)
    for slot in found:
        if slot.path not in shapes:
            raise BadInput(f"group {group.name} has units in {slot.path}, which the parameters lack: trace this net")
    return found


def summed(leaf: Array, slot: Slot, size: int) -> Array:
    """The leaf's sums over all entries of each unit: [n_g]."""
    assert slot.axis is not None
    others = tuple(axis for axis in range(leaf.ndim) if axis != slot.axis)
    return leaf.sum(axis=others)[positions(slot, size)].sum(axis=1)


def makes(slot: Slot, shapes: Shapes) -> bool:
    """Whether the slot is on an output axis: of the kernel that makes the unit, its bias, or a norm's parameters.

    Which axes of a kernel are inputs is as ``layouts.input_axes`` has it; an embedding's first axis is its input.
    """
    shape = shapes[slot.path]
    if len(shape) < KERNEL_AXES:
        return True
    assert slot.axis is not None
    parent, _, _ = slot.path.rpartition("/")
    return slot.axis >= layouts.input_axes(slot.path, shape, shapes.get(f"{parent}/bias" if parent else "bias"))


def occupied(shapes: Shapes, groups: Sequence[Group]) -> dict[str, list[dict[int, int]]]:
    """For every leaf and axis which groups have units there, and how many positions each unit takes.

    Raises BadInput where units sit outside their axis, or groups take more of it than there is.
    """
    found: dict[str, list[dict[int, int]]] = {path: [{} for _ in shape] for path, shape in shapes.items()}
    for number, group in enumerate(groups):
        for slot in slots(shapes, group):
            shape, axis = shapes[slot.path], slot.axis
            assert axis is not None
            if axis >= len(shape) or positions(slot, group.size).max() >= shape[axis]:
                raise BadInput(f"group {group.name} has units outside axis {axis} of {slot.path}, {list(shape)}")
            places = found[slot.path][axis]
            places[number] = places.get(number, 0) + len(slot.starts)
            if _taken(places, groups) > shape[axis]:
                raise BadInput(f"the groups take more than there is of axis {axis} of {slot.path}, {list(shape)}")
    return found


def left_over(extent: int, places: dict[int, int], groups: Sequence[Group]) -> int:
    """Positions of an axis that no group holds."""
    return extent - _taken(places, groups)


def _taken(places: dict[int, int], groups: Sequence[Group]) -> int:
    return sum(times * groups[number].size for number, times in places.items())
