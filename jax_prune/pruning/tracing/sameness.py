"""Whether a network that was made narrower still is the same program, with fewer units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jax_prune.nets.rewriting import PRODUCTS
from jax_prune.pruning.tracing.program import Labelled
from jax_prune.pruning.tracing.units import NEVER

Kept = Mapping[tuple[str, bool, int], np.ndarray]  # bool [size] of (path, state, axis), where anything goes


def difference(dense: Labelled, narrow: Labelled, kept: Kept) -> str:
    """What is another, in words; nothing where the programs agree."""
    products, numbers = zip(*(_content(one.jaxpr) for one in (dense, narrow)), strict=True)
    if products[0] != products[1]:
        return f"it has {products[1]} products instead of {products[0]}"
    if len(numbers[0]) != len(numbers[1]):
        return "its operations are others"
    changed = next((pair for pair in zip(*numbers, strict=True) if repr(pair[0]) != repr(pair[1])), None)
    if changed:
        return f"the number {changed[0]:.6g} in it has become {changed[1]:.6g}"
    odd = _other_units(dense, narrow, kept)
    return f"the units of {odd} are joined in another way" if odd else ""


def _other_units(dense: Labelled, narrow: Labelled, kept: Kept) -> str:
    """The path of a leaf on which kept positions are other units than before, or can be cut where they could not."""
    before, after, paths = [], [], []
    single: set[int] = set()
    found = {(axis.path, axis.state, axis.axis): axis for axis in narrow.axes}
    for axis in dense.axes:
        key = (axis.path, axis.state, axis.axis)
        ids = np.arange(axis.first, axis.first + axis.size)[kept.get(key, slice(None))]
        units = dense.units.of[ids]
        if key not in found:  # one position is left, which has no label
            single |= set(units.tolist())
            continue
        other = found[key]
        before.append(units)
        after.append(narrow.units.of[other.first : other.first + other.size])
        paths += [axis.path] * len(ids)
    if not before:
        return ""
    old, new = np.concatenate(before), np.concatenate(after)
    stays, still = dense.units.reason[old] != NEVER, narrow.units.reason[new] != NEVER
    unlike = ~stays & (_unlike(old, new) | _unlike(new, old))
    # a block or group of one unit is read differently, with all that it is joined with
    alone = np.isin(new, new[np.isin(old, list(single))])
    bad = np.flatnonzero((unlike | (stays != still)) & ~alone)
    return paths[bad[0]] if len(bad) else ""


def _unlike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool [N]: positions whose ``other`` is not that of the first position with the same ``one``."""
    _, first, place = np.unique(one, return_index=True, return_inverse=True)
    return other != other[first][place]


def _content(closed: ClosedJaxpr) -> tuple[int, list[float]]:
    """How many products a program has, and all its scalar floats in order."""
    products, numbers = 0, []
    for equation in _equations(closed):
        products += equation.primitive.name in PRODUCTS
        numbers += [float(atom.val) for atom in equation.invars if isinstance(atom, Literal) and _is_float(atom)]
    return products, numbers


def _is_float(atom: Any) -> bool:
    return not atom.aval.shape and np.issubdtype(atom.aval.dtype, np.floating)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                    yield from _equations(inner)
