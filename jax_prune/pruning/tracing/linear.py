"""Products: what is summed over joins a kernel's inputs, what is left are its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from jax_prune.pruning.tracing.elementwise import Rule
from jax_prune.pruning.tracing.labels import FREE, Axis, Value, fixed
from jax_prune.pruning.tracing.ledger import Ledger

WINDOW = "positions of a kernel's window"
HEADS = "product of two activations: heads are whole units"
NO_UNITS = "what has no units"
SPACE = "space after a convolution"


def dot_general(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Batch axes are taken position by position, contracted ones summed, the others follow in order."""
    left, right = values
    (contracted, batch) = equation.params["dimension_numbers"]
    for one, other in zip(*contracted, strict=True):
        contract(ledger, "dot_general", (left, left.axes[one]), (right, right.axes[other]))
    axes = []
    for one, other in zip(*batch, strict=True):
        zero = left.zero_along(one) or right.zero_along(other)
        axes.append(ledger.join([left.axes[one], right.axes[other]], "dot_general", zero))
    for value, used in ((left, {*contracted[0], *batch[0]}), (right, {*contracted[1], *batch[1]})):
        for place, axis in enumerate(value.axes):
            if place not in used:
                axes.append(_outputs(ledger, "dot_general", value, axis, left.data and right.data))
    return [Value(tuple(axes), left.data or right.data, left.zero or right.zero)]


def contract(ledger: Ledger, name: str, left: tuple[Value, Axis], right: tuple[Value, Axis]) -> None:
    """A sum over two axes is cut with them if a kernel, which the mask makes zero, is one of the two."""
    axes = (left[1], right[1])
    joined = ledger.join(axes, name)
    if left[0].data and right[0].data:
        ledger.freeze(joined, HEADS)
    elif any(axis.free for axis in axes):
        (units,) = [pair for pair in (left, right) if not pair[1].free] or [left]
        if units[0].data or not units[1].zero:
            ledger.freeze(joined, f"{name} sums over it", mixes=True)
    elif not any(axis.zero for axis in axes):
        ledger.freeze(joined, f"{name} with what no mask makes zero")


def convolution(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Features are contracted with a kernel's inputs, block by block where it is grouped; space is no unit."""
    images, kernel = values
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    (batch, feature, *space), (out, inputs, *window) = numbers.lhs_spec, numbers.rhs_spec
    for place in space:
        ledger.freeze(images.axes[place], "conv_general_dilated moves along it")
    for place in window:
        ledger.freeze(kernel.axes[place], WINDOW)
    if equation.params["batch_group_count"] > 1 or (images.data and kernel.data):
        for axis in (*images.axes, *kernel.axes):
            ledger.freeze(axis, "conv_general_dilated with a kernel made of data, or grouped by batch")
    features, outputs = images.axes[feature], kernel.axes[out]
    if groups == 1:
        contract(ledger, "conv_general_dilated", (images, features), (kernel, kernel.axes[inputs]))
    else:
        depthwise = equation.invars[1].aval.shape[inputs] == 1
        _blocks(ledger, features, kernel.axes[inputs], outputs, groups, depthwise)
    shape = equation.outvars[0].aval.shape
    axes = [fixed(SPACE) if size > 1 else FREE for size in shape]
    axes[numbers.out_spec[0]] = images.axes[batch]
    axes[numbers.out_spec[1]] = _outputs(ledger, "conv_general_dilated", kernel, outputs, False)
    return [Value(tuple(axes), images.data or kernel.data, images.zero or kernel.zero)]


def _outputs(ledger: Ledger, name: str, value: Value, axis: Axis, of_data: bool) -> Axis:
    """A kernel's outputs, or what an activation keeps."""
    if of_data:
        ledger.freeze(axis, HEADS)
    elif not value.data:
        ledger.produce(axis)
    return axis


def _blocks(ledger: Ledger, features: Axis, inputs: Axis, outputs: Axis, groups: int, depthwise: bool) -> None:
    """Depthwise: an input and its outputs are one unit. Else position i of all blocks together, so they stay equal."""
    name = "conv_general_dilated in blocks"
    if depthwise and features.ids is not None and outputs.ids is not None:
        ledger.union(np.repeat(features.ids, len(outputs.ids) // groups), outputs.ids)
    elif depthwise:
        ledger.freeze(features, f"{name} with {outputs.what or NO_UNITS}")
        ledger.freeze(outputs, f"{name} with {features.what or NO_UNITS}")
    else:
        first = ledger.join([_first_block(ledger, features, groups), inputs], name)
        _first_block(ledger, outputs, groups)
        if not inputs.zero:
            ledger.freeze(first, f"{name} with what no mask makes zero")


def _first_block(ledger: Ledger, axis: Axis, groups: int) -> Axis:
    """The units of the first of so many equal blocks, which are those of the others too."""
    if axis.ids is None:
        return axis
    rows = axis.ids.reshape(groups, -1)
    ledger.union(np.broadcast_to(rows[0], rows.shape).reshape(-1), axis.ids)
    return Axis(rows[0], axis.zero)


RULES: dict[str, Rule] = {"dot_general": dot_general, "conv_general_dilated": convolution}
