"""Operations whose positions are computed: whole axes pass, looked-up ones stay."""

from __future__ import annotations

from typing import Any

from jax_prune.pruning.tracing.elementwise import Rule
from jax_prune.pruning.tracing.labels import Axis, Value, fixed
from jax_prune.pruning.tracing.ledger import Ledger


def dynamic_slice(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    value, before = values[0], equation.invars[0].aval.shape
    axes = []
    for axis, size, taken in zip(value.axes, before, equation.params["slice_sizes"], strict=True):
        axes.append(axis if taken == size else _looked_up(ledger, axis, "dynamic_slice"))
    return [Value(tuple(axes), any(one.data for one in values), value.zero)]


def dynamic_update_slice(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    value, update = values[0], values[1]
    shapes = zip(equation.invars[0].aval.shape, equation.invars[1].aval.shape, strict=True)
    axes = []
    for place, (size, other) in enumerate(shapes):
        one, two = value.axes[place], update.axes[place]
        if size == other:
            zero = value.zero_along(place) and update.zero_along(place)
            axes.append(ledger.join([one, two], "dynamic_update_slice", zero))
        else:
            _looked_up(ledger, two, "dynamic_update_slice")
            axes.append(_looked_up(ledger, one, "dynamic_update_slice"))
    return [Value(tuple(axes), any(one.data for one in values), value.zero and update.zero)]


def gather(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """An embedding's features pass, its vocabulary is looked up and stays."""
    table, indices = values
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape = equation.invars[0].aval.shape
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    rows = {*numbers.collapsed_slice_dims, *batching}
    whole = [place for place in range(len(shape)) if place not in rows]
    ledger.freeze(indices.axes[-1], "gather looks up by it")
    axes: list[Axis] = []
    beside = iter(_batch(ledger, table, indices, numbers, batching))
    windows = iter(whole)
    for place in range(equation.outvars[0].aval.ndim):
        if place not in numbers.offset_dims:
            axes.append(next(beside))
            continue
        source = next(windows)
        axis = table.axes[source]
        if sizes[source] != shape[source]:
            axis = _looked_up(ledger, axis, "gather")
        elif not table.data:
            ledger.produce(axis)
        axes.append(axis)
    for place in numbers.collapsed_slice_dims:
        _looked_up(ledger, table.axes[place], "gather")
    return [Value(tuple(axes), table.data or indices.data, table.zero)]


def scatter(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Batch norm writes a whole array, with an empty index; axes that are written whole pass, others stay."""
    value, indices, update = values
    numbers = equation.params["dimension_numbers"]
    shape, given = equation.invars[0].aval.shape, equation.invars[2].aval.shape
    away = {*numbers.inserted_window_dims, *getattr(numbers, "operand_batching_dims", ())}
    windows = iter(numbers.update_window_dims)
    for axis in indices.axes:
        ledger.freeze(axis, "scatter looks up by it")
    axes, used = [], set()
    for place, axis in enumerate(value.axes):
        target = None if place in away else next(windows)
        if target is not None:
            used.add(target)
        if target is not None and given[target] == shape[place]:
            zero = value.zero_along(place) and update.zero_along(target)
            axes.append(ledger.join([axis, update.axes[target]], "scatter", zero))
            continue
        axes.append(_looked_up(ledger, axis, "scatter"))
        if target is not None:
            _looked_up(ledger, update.axes[target], "scatter")
    for place, axis in enumerate(update.axes):
        if place not in used:
            ledger.freeze(axis, "scatter adds along it", mixes=True)
    return [Value(tuple(axes), any(one.data for one in values), value.zero and update.zero)]


def _batch(ledger: Ledger, table: Value, indices: Value, numbers: Any, batching: tuple[int, ...]) -> list[Axis]:
    """The axes of the indices but the last; those that run along the table's own are one with them."""
    axes = list(indices.axes[:-1])
    own = getattr(numbers, "start_indices_batching_dims", ())
    for place, other in zip(batching, own, strict=True):
        axes[other] = ledger.join([table.axes[place], axes[other]], "gather", table.axes[place].zero)
    return [axis._replace(zero=axis.zero and place in own) for place, axis in enumerate(axes)]


def _looked_up(ledger: Ledger, axis: Axis, name: str) -> Axis:
    if axis.ids is not None:
        ledger.freeze(axis, f"{name} looks up positions of it")
    return fixed(f"what {name} looks up")


RULES: dict[str, Rule] = {
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    **dict.fromkeys(["scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"], scatter),
}
