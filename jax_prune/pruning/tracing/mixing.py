"""Operations that mix positions along an axis: its units stay, other axes are taken position by position."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jax_prune.pruning.tracing.elementwise import Rule
from jax_prune.pruning.tracing.labels import FREE, Axis, Value, all_fixed, fixed
from jax_prune.pruning.tracing.ledger import Ledger

REDUCTIONS = ["sum", "max", "min", "prod", "and", "or", "xor"]
KEEP_ZERO = {"reduce_sum", "reduce_max", "reduce_min", "cumsum", "cummax", "cummin"}
UNKNOWN = "the result of {}, which tracing does not know"


def reduction(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Sums, maxima, ...: the reduced axes go."""
    name, params = equation.primitive.name, equation.params
    away = {int(axis) for axis in params.get("axes", params.get("dimensions", ()))}
    kept = _along(ledger, values[: len(equation.outvars)], name, away)
    axes = tuple(axis for place, axis in enumerate(kept) if place not in away)
    return [Value(axes, any(value.data for value in values))] * len(equation.outvars)


def running(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Cumulative sums, sorts, largest entries: shapes stay but for the axis."""
    name, params = equation.primitive.name, equation.params
    rank = len(values[0].axes)
    along = int(params.get("axis", params.get("dimension", rank - 1))) % max(rank, 1)
    axes = list(_along(ledger, values, name, {along}))
    if rank:
        axes[along] = fixed(f"the result of {name}")
    data = any(value.data for value in values)
    return [Value(tuple(axes), data) for _ in equation.outvars]


def window(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Pooling: an axis with a window of one, and no stride or padding, is taken position by position."""
    name, params = equation.primitive.name, equation.params
    ones = (1,) * len(values[0].axes)
    sides = zip(
        params["window_dimensions"],
        params.get("window_strides", ones),
        params.get("padding", ((0, 0),) * len(ones)),
        params.get("base_dilation", ones),
        strict=True,
    )
    over = {place for place, side in enumerate(sides) if tuple(side) != (1, 1, (0, 0), 1)}
    arrays = values[: len(equation.outvars)]
    axes = _along(ledger, arrays, name, over)
    return [Value(axes, any(value.data for value in values))] * len(equation.outvars)


def unknown(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """A primitive without a rule: whatever it touches stays."""
    name = equation.primitive.name
    for value in values:
        for axis in value.axes:
            ledger.freeze(axis, f"{name} is not known to the tracer", mixes=True)
    return [all_fixed(var.aval.shape, UNKNOWN.format(name), True) for var in equation.outvars]


def generated(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Random numbers: no units, whatever the seed."""
    return [all_fixed(var.aval.shape, f"the result of {equation.primitive.name}", False) for var in equation.outvars]


def iota(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Counts along one axis, constant along the others."""
    along = equation.params["dimension"]
    ndim = equation.outvars[0].aval.ndim
    return [Value(tuple(fixed("the numbers of iota") if place == along else FREE for place in range(ndim)))]


def _along(ledger: Ledger, values: list[Value], name: str, mixed: Collection[int]) -> tuple[Axis, ...]:
    """The joined axes of ``values``, of one shape; those of ``mixed`` frozen and without units."""
    axes = []
    for place in range(len(values[0].axes)):
        zero = name in KEEP_ZERO and all(value.zero_along(place) for value in values)
        axis = ledger.join([value.axes[place] for value in values], name, zero)
        if place in mixed:
            ledger.freeze(axis, f"{name} over it", mixes=True)
            axis = fixed(f"the result of {name}") if axis.ids is not None else axis
        axes.append(axis)
    return tuple(axes)


RULES: dict[str, Rule] = {
    **{f"reduce_{kind}": reduction for kind in REDUCTIONS},
    **dict.fromkeys(["argmax", "argmin", "reduce"], reduction),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "top_k"], running),
    **dict.fromkeys(["reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"], window),
    **dict.fromkeys(["random_bits", "random_seed", "random_fold_in", "random_split", "random_wrap"], generated),
    **dict.fromkeys(["random_unwrap", "threefry2x32", "random_clone"], generated),
    "iota": iota,
}
