"""Where a parameter's axes lie in what a program makes of it, one equation at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Axes = tuple[int | None, ...]  # of a value: which axis of the parameter each one is, position by position
Rule = Callable[[Any, int, Axes], Axes]  # an equation, which operand, its axes: those of the output
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
BY_POSITION = """
    abs add add_any and atan2 cbrt ceil clamp convert_element_type copy cos div eq erf exp exp2 expm1 floor ge gt
    integer_pow is_finite le log log1p logistic lt max min mul ne neg nextafter not optimization_barrier or pow
    reduce_precision rem round rsqrt select_n sign sin sqrt square stop_gradient sub tan tanh xor
"""


def _by_position(equation: Any, number: int, axes: Axes) -> Axes:
    before, after = equation.invars[number].aval.shape, equation.outvars[0].aval.shape
    if not before:
        return (None,) * len(after)
    return tuple(axis if one == other else None for axis, one, other in zip(axes, before, after, strict=True))


def _broadcast(equation: Any, number: int, axes: Axes) -> Axes:
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    result: list[int | None] = [None] * len(after)
    if number == 0:
        for axis, target in enumerate(equation.params["broadcast_dimensions"]):
            result[target] = axes[axis] if before[axis] == after[target] else None
    return tuple(result)


def _reshape(equation: Any, number: int, axes: Axes) -> Axes:
    """An axis stays one where as many entries lie before it, and it has its length."""
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    places = {(math.prod(before[:axis]), size): axes[axis] for axis, size in enumerate(before) if size > 1}
    return tuple(places.get((math.prod(after[:axis]), size)) for axis, size in enumerate(after))


def _transpose(equation: Any, number: int, axes: Axes) -> Axes:
    return tuple(axes[axis] for axis in equation.params["permutation"])


def _squeeze(equation: Any, number: int, axes: Axes) -> Axes:
    return tuple(own for axis, own in enumerate(axes) if axis not in equation.params["dimensions"])


def _expand(equation: Any, number: int, axes: Axes) -> Axes:
    rest = iter(axes)
    count = len(equation.outvars[0].aval.shape)
    return tuple(None if axis in equation.params["dimensions"] else next(rest) for axis in range(count))


def _reduce(equation: Any, number: int, axes: Axes) -> Axes:
    return tuple(own for axis, own in enumerate(axes) if axis not in equation.params["axes"])


def _dot(equation: Any, number: int, axes: Axes) -> Axes:
    contracted, batch = equation.params["dimension_numbers"]
    ranks = [len(atom.aval.shape) for atom in equation.invars[:2]]
    free = [[axis for axis in range(ranks[side]) if axis not in (*contracted[side], *batch[side])] for side in range(2)]
    result = [axes[axis] for axis in batch[number]]
    for side in range(2):
        result += [axes[axis] if side == number else None for axis in free[side]]
    return tuple(result)


def _convolution(equation: Any, number: int, axes: Axes) -> Axes:
    """Only a kernel's output features are an axis of the output, in order."""
    numbers = equation.params["dimension_numbers"]
    result: list[int | None] = [None] * len(numbers.out_spec)
    if number == 1 and equation.params["batch_group_count"] == 1:
        result[numbers.out_spec[1]] = axes[numbers.rhs_spec[0]]
    return tuple(result)


RULES: dict[str, Rule] = (
    dict.fromkeys(BY_POSITION.split(), _by_position)
    | dict.fromkeys(REDUCTIONS, _reduce)
    | {
        "broadcast_in_dim": _broadcast,
        "reshape": _reshape,
        "transpose": _transpose,
        "squeeze": _squeeze,
        "expand_dims": _expand,
        "dot_general": _dot,
        "conv_general_dilated": _convolution,
    }
)
