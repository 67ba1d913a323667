"""Operations that move positions: the units go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_prune.pruning.tracing.elementwise import Rule
from jax_prune.pruning.tracing.labels import FREE, Axis, Value, fixed
from jax_prune.pruning.tracing.ledger import Ledger


def transpose(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    return [value._replace(axes=tuple(value.axes[place] for place in equation.params["permutation"]))]


def squeeze(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    away = set(equation.params["dimensions"])
    for place in away:
        ledger.freeze(value.axes[place], "squeeze takes one of them alone")
    return [value._replace(axes=tuple(axis for place, axis in enumerate(value.axes) if place not in away))]


def broadcast(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """New axes, and those of one position that grow, are constant along."""
    value, shape = values[0], equation.params["shape"]
    axes = [FREE] * len(shape)
    before = equation.invars[0].aval.shape
    for place, target in enumerate(equation.params["broadcast_dimensions"]):
        if before[place] == shape[target]:
            axes[target] = value.axes[place]
        else:
            ledger.freeze(value.axes[place], "broadcast_in_dim repeats one of them")
    return [value._replace(axes=tuple(axes))]


def rev(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    turned = set(equation.params["dimensions"])
    axes = [_taken(axis, slice(None, None, -1)) if place in turned else axis for place, axis in enumerate(value.axes)]
    return [value._replace(axes=tuple(axes))]


def slices(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    params = equation.params
    steps = params["strides"] or (1,) * len(value.axes)
    bounds = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    axes = [_taken(axis, slice(*bound)) for axis, bound in zip(value.axes, bounds, strict=True)]
    return [value._replace(axes=tuple(axes))]


def split(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    along = equation.params["axis"]
    ends = np.cumsum([int(size) for size in equation.params["sizes"]])
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        axes = list(value.axes)
        axes[along] = _taken(axes[along], slice(int(start), int(end)))
        parts.append(value._replace(axes=tuple(axes)))
    return parts


def stack(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """A new axis, on which operands lie side by side, has no units."""
    zero = all(value.zero for value in values)
    axes = [
        ledger.join([value.axes[place] for value in values], "stack", all(value.zero_along(place) for value in values))
        for place in range(len(values[0].axes))
    ]
    axes.insert(equation.params["axis"], FREE if zero or len(values) == 1 else fixed("what stack puts side by side"))
    return [Value(tuple(axes), any(value.data for value in values), zero)]


def unstack(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    along = equation.params["axis"]
    ledger.freeze(value.axes[along], "unstack takes them one by one")
    return [value._replace(axes=value.axes[:along] + value.axes[along + 1 :])] * len(equation.outvars)


def tile(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    (value,) = values
    axes = [
        axis if axis.ids is None else axis._replace(ids=np.tile(axis.ids, times))
        for axis, times in zip(value.axes, equation.params["reps"], strict=True)
    ]
    return [value._replace(axes=tuple(axes))]


def concatenate(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    along = equation.params["dimension"]
    axes = []
    for place in range(len(values[0].axes)):
        one = [value.axes[place] for value in values]
        zero = all(value.zero_along(place) for value in values)
        if place != along:
            axes.append(ledger.join(one, "concatenate", zero))
        elif any(axis.ids is not None for axis in one):
            sizes = [atom.aval.shape[along] for atom in equation.invars]
            ids = [_own(ledger, axis, size) for axis, size in zip(one, sizes, strict=True)]
            axes.append(Axis(np.concatenate(ids), zero))
        else:
            axes.append(FREE if all(value.zero for value in values) else fixed(_what(one)))
    return [Value(tuple(axes), any(value.data for value in values), all(value.zero for value in values))]


def pad(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """What pads an axis of units has units of its own, which stay: the program says how many."""
    value, filler = values
    axes = []
    for axis, (low, high, between) in zip(value.axes, equation.params["padding_config"], strict=True):
        if (low, high, between) == (0, 0, 0):
            axes.append(axis)
        elif axis.ids is None:
            axes.append(FREE if value.zero and filler.zero else fixed(axis.what or "what pad adds"))
        else:
            axes.append(Axis(_padded(ledger, axis.ids, low, high, between), axis.zero and filler.zero))
    return [Value(tuple(axes), value.data or filler.data, value.zero and filler.zero)]


def reshape(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Neighbouring axes become one, or one becomes several; the rest passes."""
    value, before, after = values[0], equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if 0 in before or equation.params.get("dimensions") is not None:
        for axis in value.axes:
            ledger.freeze(axis, "reshape with dimensions", mixes=True)
        return [Value(tuple(fixed("what reshape gives") for _ in after), value.data, value.zero)]
    for axis, size in zip(value.axes, before, strict=True):
        if size == 1:
            ledger.freeze(axis, "reshape takes one of them alone")
    axes = [FREE] * len(after)
    for sources, targets in blocks(before, after):
        one = [value.axes[place] for place in sources]
        if len(sources) > 1:
            one = [_merged(ledger, one, [before[place] for place in sources])]
        if len(targets) > 1:
            one = _parted(ledger, one[0], [after[place] for place in targets])
        for target, axis in zip(targets, one, strict=True):
            axes[target] = axis
    return [value._replace(axes=tuple(axes))]


def blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes with equal products on both sides; axes of one position aside."""
    left = [place for place, size in enumerate(before) if size != 1]
    right = [place for place, size in enumerate(after) if size != 1]
    found = []
    while left:
        sources, targets = [left.pop(0)], [right.pop(0)]
        have, want = before[sources[0]], after[targets[0]]
        while have != want:
            if have < want:
                sources.append(left.pop(0))
                have *= before[sources[-1]]
            else:
                targets.append(right.pop(0))
                want *= after[targets[-1]]
        found.append((sources, targets))
    return found


def _merged(ledger: Ledger, axes: list[Axis], sizes: list[int]) -> Axis:
    """Units of one of the axes are repeated or tiled; of several, only those of one can be units of the whole."""
    units = [place for place, axis in enumerate(axes) if axis.ids is not None]
    if not units:
        return FREE if all(axis.free for axis in axes) else fixed(_what(axes))
    zero = all(axes[place].zero for place in units)
    if len(units) == 1:
        shape = [size if place == units[0] else 1 for place, size in enumerate(sizes)]
        (ids,) = (axes[place].ids for place in units)
        assert ids is not None
        return Axis(np.broadcast_to(ids.reshape(shape), sizes).reshape(-1), zero)
    whole = ledger.fresh(int(np.prod(sizes)))
    ledger.factor(whole, sizes, [axis.ids for axis in axes])
    return Axis(whole, zero)


def _parted(ledger: Ledger, axis: Axis, sizes: list[int]) -> list[Axis]:
    if axis.ids is None:
        return [axis] * len(sizes)
    parts = [ledger.fresh(size) for size in sizes]
    ledger.factor(axis.ids, sizes, parts)
    return [Axis(part, axis.zero) for part in parts]


def _taken(axis: Axis, positions: slice) -> Axis:
    return axis if axis.ids is None else axis._replace(ids=axis.ids[positions])


def _own(ledger: Ledger, axis: Axis, size: int) -> np.ndarray:
    """The units of an axis, or new ones that stay."""
    if axis.ids is not None:
        return axis.ids
    ids = ledger.fresh(size)
    ledger.freeze(Axis(ids), f"concatenate of {axis.what or 'a constant'}")
    return ids


def _padded(ledger: Ledger, ids: np.ndarray, low: int, high: int, between: int) -> np.ndarray:
    """Negative padding cuts off."""
    spread = np.full((len(ids), 1 + between), -1)
    spread[:, 0] = ids
    inner = spread.reshape(-1)[: len(ids) + between * (len(ids) - 1)]
    whole = np.concatenate([np.full(max(low, 0), -1), inner, np.full(max(high, 0), -1)])
    whole = whole[max(-low, 0) : len(whole) - max(-high, 0)]
    added = whole < 0
    new = ledger.fresh(int(added.sum()))
    ledger.freeze(Axis(new), "pad adds positions of its own")
    whole[added] = new
    return whole


def _what(axes: Sequence[Axis]) -> str:
    return next((axis.what for axis in axes if axis.what), "constants side by side")


RULES: dict[str, Rule] = {
    "transpose": transpose,
    "squeeze": squeeze,
    "broadcast_in_dim": broadcast,
    "rev": rev,
    "slice": slices,
    "split": split,
    "stack": stack,
    "unstack": unstack,
    "tile": tile,
    "concatenate": concatenate,
    "pad": pad,
    "reshape": reshape,
}
