"""A network without its removed units: smaller arrays, and modules that know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from jax_prune import storage
from jax_prune.errors import BadInput, said
from jax_prune.nets import from_linen, from_nnx
from jax_prune.nets.resizing import resize
from jax_prune.pruning import channels, layouts
from jax_prune.pruning import masks as masking
from jax_prune.pruning.tracing import sameness
from jax_prune.pruning.tracing.program import Labelled, labelled
from jax_prune.types import Group, Net, Tree

Widths = Mapping[str, int | tuple[int, ...]]  # outputs of every layer; heads and their width where it has both


def compact(
    net: Net,
    groups: Sequence[Group],
    kept: Sequence[Any],
    *,
    example: Any = None,
    build: Callable[[Widths], linen.Module] | None = None,
    round_to: int = 1,
) -> Net:
    """``net`` with the units of ``groups`` that are not ``kept`` cut out of its parameters and state.

    ``kept[g]`` is a bool mask [n_g], or the indices of the units that stay, at least one. The outputs are those of
    ``net`` with its parameters masked (``masks.scatter``, consumers' rows too). With ``round_to`` whole multiples
    stay, or the group; what stays only for that is zero. An NNX module is rebuilt with its layers' sizes set anew; a
    Linen one as ``build(widths(params))`` gives it, by default the ``build`` of ``from_linen``; any other net keeps
    its ``apply``.

    With an ``example`` the smaller network is checked, by its program alone: a width that its forward does not take
    from its arrays, or a number made of one, ends in BadInput. So do masks that do not fit.
    """
    if len(groups) != len(kept):
        raise BadInput(f"there are {len(groups)} groups and {len(kept)} masks of kept units: give one a group")
    if round_to < 1:
        raise BadInput(f"round_to is {round_to}: give 1 or more")
    flags = [_flags(group, one) for group, one in zip(groups, kept, strict=True)]
    staying = [_rounded(flag, round_to) for flag in flags]
    lines = _lines(net, groups, staying)
    params = net.params
    if any(not np.array_equal(*pair) for pair in zip(flags, staying, strict=True)):
        params = masking.apply(
            params, masking.scatter(masking.full(params), params, groups, list(map(jnp.asarray, flags)))
        )
    small = _rebuilt(net, _cut(params, lines, False), _cut(net.state, lines, True), build)
    if example is not None:
        _check(labelled(net, example), small, example, lines)
    return small


def widths(params: Tree) -> Widths:
    """How many outputs every layer has, by its path: what a Linen module is to be built with."""
    leaves = {path: np.shape(leaf) for path, leaf in storage.flatten_paths(params).items() if not path.endswith("/")}
    found: dict[str, int | tuple[int, ...]] = {}
    for path, shape in leaves.items():
        layer = layouts.layer_of(path)
        if layer == path or len(shape) < 2:
            continue
        try:
            inputs = layouts.input_axes(path, shape, leaves.get(f"{layer}/bias"))
        except BadInput:
            inputs = len(shape) - 1
        outputs = shape[inputs:]
        found[layer] = outputs[0] if len(outputs) == 1 else outputs
    return found


def _flags(group: Group, kept: Any) -> np.ndarray:
    """bool [n_g]."""
    if not channels.is_channels(group):
        raise BadInput(
            f"{group.name} is a group of single weights, which no array can lose: give those of groups.trace"
        )
    kept = np.asarray(kept)
    if kept.dtype != bool:
        if (
            kept.ndim != 1
            or not np.issubdtype(kept.dtype, np.integer)
            or not np.isin(kept, np.arange(group.size)).all()
        ):
            raise BadInput(f"kept units of {group.name} are to be a mask or indices below {group.size}")
        kept = np.isin(np.arange(group.size), kept)
    if kept.shape != (group.size,):
        raise BadInput(f"the mask of {group.name} is {list(kept.shape)}, but it has {group.size} units")
    if not kept.any():
        raise BadInput(f"no unit of {group.name} is kept: leave at least one")
    return kept


def _rounded(flags: np.ndarray, multiple: int) -> np.ndarray:
    """The first removed units stay as well, up to the next multiple."""
    count = int(flags.sum())
    missing = min(-(-count // multiple) * multiple, len(flags)) - count
    staying = flags.copy()
    staying[np.flatnonzero(~flags)[:missing]] = True
    return staying


def _lines(net: Net, groups: Sequence[Group], staying: Sequence[np.ndarray]) -> dict[tuple[str, bool, int], np.ndarray]:
    """What stays along every axis that loses anything: bool [size] by path, state and axis."""
    shapes = {
        state: {path: np.shape(leaf) for path, leaf in storage.flatten_paths(tree).items()}
        for state, tree in ((False, net.params), (True, net.state))
    }
    lines: dict[tuple[str, bool, int], np.ndarray] = {}
    for group, flags in zip(groups, staying, strict=True):
        for slot in group.slots:
            shape, axis = shapes[slot.state].get(slot.path, ()), slot.axis
            places = channels.positions(slot, group.size)
            if axis is None or axis >= len(shape) or places.max() >= shape[axis]:
                raise BadInput(f"group {group.name} is of another net: {slot.path} does not hold it")
            line = lines.setdefault((slot.path, slot.state, axis), np.ones(shape[axis], bool))
            line[places] &= flags[:, None]
    return lines


def _cut(tree: Tree, lines: Mapping[tuple[str, bool, int], np.ndarray], state: bool) -> Tree:
    flat = storage.flatten_paths(tree)
    for (path, of_state, axis), line in lines.items():
        if of_state == state and not line.all():
            flat[path] = jnp.compress(line, flat[path], axis=axis)
    return storage.unflatten_paths(flat)


def _rebuilt(net: Net, params: Tree, state: Tree, build: Callable[[Widths], linen.Module] | None) -> Net:
    if isinstance(getattr(net.apply, "module", None), linen.Module):
        build = build or getattr(net.apply, "build", None)
        if build is None:
            raise BadInput(
                "a Linen module has its widths as fields: give nets.from_linen or compact its build, a function that "
                f"makes it from the outputs of its layers, here {dict(widths(params))}"
            )
        return from_linen(build(widths(params)), {"params": params, **state}, build=build)
    module = net.rebuild(params, state)
    if not isinstance(module, nnx.Module):
        return net.replace(params=params, state=state)
    resize(module)
    return from_nnx(module)


def _check(dense: Labelled, small: Net, example: Any, lines: Mapping[tuple[str, bool, int], np.ndarray]) -> None:
    try:
        narrow = labelled(small, example)
    except BadInput as error:
        raise BadInput(
            f"the smaller network does not run ({said(error.__cause__ or error)}): its forward hard-codes a width; let "
            "it take widths from its layers or its inputs"
        ) from error
    shapes = [jax.tree.map(lambda leaf: leaf.shape, one.outputs) for one in (dense, narrow)]
    odd = f"its outputs are {shapes[1]}, not {shapes[0]}" if shapes[0] != shapes[1] else ""
    odd = odd or sameness.difference(dense, narrow, lines)
    if odd:
        raise BadInput(
            f"the smaller network computes something else ({odd}): its forward hard-codes a width; let it take widths "
            "from its layers or its inputs"
        )
