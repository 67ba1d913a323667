"""Weight groups of a parameter tree: which entries share one pruning ratio, and what rules say of them.

Channel groups, whose units are whole channels, are traced: ``trace(net, example)``.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.pruning import layouts, patterns
from jax_prune.pruning.layouts import layer_of
from jax_prune.pruning.tracing import Frozen, Traced, trace, traced
from jax_prune.types import Array, Bounds, Group, Slot, Tree

__all__ = [
    "Frozen",
    "Rule",
    "Traced",
    "bounds",
    "gather",
    "leaf_at",
    "sizes",
    "trace",
    "traced",
    "weight_groups",
]
EXACT = 1e-9  # a ratio that was written as a decimal may differ by this much from the quotient it stands for


class Rule(NamedTuple):
    """What holds for every leaf whose '/'-joined path the regex ``pattern`` matches in full.

    ``lower`` and ``upper`` bound the pruning ratio; ``frozen`` leaves are never pruned; leaves with the same
    ``group`` share one ratio and one ranking, those with the same ``tied`` the ratio alone. Kept counts are multiples
    of ``round_to``, or the whole group. ``nm`` "2:4" keeps exactly 2 of every 4 consecutive inputs, "n:4" lets the
    search choose the 2; of ``block`` (r, c) tiles of r inputs x c outputs stay whole (see ``patterns``), which
    read so many leading axes of a kernel as ``inputs``, or as many as ``layouts`` tells.
    """

    pattern: str
    lower: float | None = None
    upper: float | None = None
    frozen: bool = False
    group: str | None = None
    tied: str | None = None
    round_to: int | None = None
    nm: str | None = None
    block: tuple[int, int] | None = None
    inputs: int | None = None


def weight_groups(params: Tree, rules: Sequence[Rule] = (), *, biases: bool = True) -> tuple[Group, ...]:
    """One group a weight leaf (two axes or more), in the order of ``params``; units are single entries.

    A group is named after its layer (``ip1`` for ``ip1/kernel``). With ``biases`` a layer's 1-D ``bias`` joins its
    kernel's group, as in DNS and OLMP, so that both face one threshold; not where a pattern holds: those biases stay.
    Norm scales are never pruned. Raises BadInput for a rule that matches nothing, or a pattern that does not fit.
    """
    leaves = {path: leaf for path, leaf in storage.flatten_paths(params).items() if not path.endswith("/")}
    _check_rules(rules, leaves)
    members: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        if jnp.ndim(leaf) < 2 or _says(rules, path, "frozen"):
            continue
        bias = _bias_of(path)
        paths = [path]
        patterned = _says(rules, path, "nm") or _says(rules, path, "block")
        if (
            biases
            and not patterned
            and bias in leaves
            and jnp.ndim(leaves[bias]) == 1
            and not _says(rules, bias, "frozen")
        ):
            paths.append(bias)
        name = _says(rules, path, "group") or layer_of(path)
        members.setdefault(name, []).extend(paths)
    if not members:
        raise BadInput("nothing to prune: no unfrozen parameter has two axes or more; check the rules")
    return tuple(_group(name, paths, leaves, rules) for name, paths in members.items())


def bounds(groups: Sequence[Group], rules: Sequence[Rule] = (), *, lower: float = 0.0, upper: float = 1.0) -> Bounds:
    """Ratio bounds float32 [G] from the rules that match a group's kernels.

    Later rules win, the tightest in a group and among tied ones; "2:4" is both bounds. A bound r of a group of n
    removes floor(r n) units, exactly; at least one step of every group stays. Raises BadInput for bounds outside
    [0, 1] or crossed, where no whole number of steps lies between them, and for a "2:4" that lies outside.
    """
    low, high = [], []
    for group in groups:
        kernels = [path for other in groups if other is group or (group.tied and other.tied == group.tied)
                   for path in _kernels(other)]  # fmt: skip
        lowest = max(_bound(rules, path, "lower", lower) for path in kernels)
        highest = min(_bound(rules, path, "upper", upper) for path in kernels)
        if not (0 <= lowest <= 1 and 0 <= highest <= 1):
            raise BadInput(f"ratio bounds of {group.name} are {lowest} and {highest}: give numbers in [0, 1]")
        if lowest > highest:
            raise BadInput(f"ratio bounds of {group.name} are crossed: lower {lowest} is above upper {highest}")
        least, most = (min(_removed(ratio, group.size), group.size - 1) for ratio in (lowest, highest))
        fewest, largest = group.size - most, group.size - least
        if least and -(-fewest // group.step) * group.step > largest:
            raise BadInput(
                f"{group.name} may keep {fewest} to {largest} of {group.size} entries, and no multiple of "
                f"{group.step} is among them; loosen its bounds or its pattern"
            )
        low.append(_ratio(least, group.size, np.float32(2)))
        high.append(_ratio(most, group.size, np.float32(0)))
    return Bounds(np.asarray(low, np.float32), np.asarray(high, np.float32))


def _kernels(group: Group) -> list[str]:
    """The paths that speak for a group: its leaves but for the biases that go with them."""
    paths = [slot.path for slot in group.slots]
    biases = {_bias_of(path) for path in paths if not path.endswith("bias")}
    return [path for path in paths if path not in biases]


def _bound(rules: Sequence[Rule], path: str, side: str, default: float) -> float:
    nm, said = _says(rules, path, "nm"), _says(rules, path, side)
    if nm is None or (fixed := patterns.per_block(nm))[0] is None:
        return default if said is None else float(said)
    ratio = 1 - fixed[0] / fixed[1]
    if said is not None and (said - ratio if side == "lower" else ratio - said) > EXACT:
        raise BadInput(f"{path} has nm={nm}, a ratio of {ratio:.4g}, and {side}={said:g}: give one of the two")
    return ratio


def _removed(ratio: float, size: int) -> int:
    """floor(ratio * size) of the decimal that was written: 0.9 of 1000 is 900."""
    return int(np.floor(np.round(ratio * size, 6)))


def _ratio(removed: int, size: int, towards: np.float32) -> np.float32:
    """The float32 ratio that removes just ``removed`` of ``size``; where none does, the nearest ``towards`` 0 or 2."""
    nearest = np.float32(removed / size)
    near = [nearest, np.nextafter(nearest, np.float32(2)), np.nextafter(nearest, np.float32(0))]
    for ratio in near:
        if np.floor(np.float64(ratio) * size) == removed:
            return ratio
    up = towards > nearest
    allowed = [r for r in near if (np.floor(np.float64(r) * size) > removed) == up]
    return min(allowed) if up else max(allowed)


def gather(tree: Tree, group: Group) -> Array:
    """All entries [n_g] of a group's leaves, in unit order."""
    return jnp.concatenate([jnp.ravel(leaf_at(tree, slot.path)) for slot in group.slots])


def sizes(groups: Sequence[Group]) -> np.ndarray:
    """Unit counts int64 [G]."""
    return np.asarray([group.size for group in groups], np.int64)


def leaf_at(tree: Tree, path: str) -> Array:
    """The leaf at a '/'-joined path."""
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _group(name: str, paths: list[str], leaves: dict[str, Array], rules: Sequence[Rule]) -> Group:
    kernels = [path for path in paths if jnp.ndim(leaves[path]) >= 2]
    tied, round_to, nm, block = (_alike(rules, kernels, field, name) for field in ("tied", "round_to", "nm", "block"))
    if nm and block:
        raise BadInput(f"{name} has nm={nm} and a block: give one pattern")
    if not (nm or block) and any(_says(rules, path, "inputs") for path in kernels):
        raise BadInput(f"{name} has inputs but no nm or block, which alone read them: drop inputs")
    if round_to is not None and round_to < 1:
        raise BadInput(f"round_to of {name} is {round_to}: give 1 or more")
    matrices = [_matrix(path, leaves, rules) for path in kernels if nm or block]
    pattern = patterns.every(nm, matrices, name) if nm else patterns.block(block, matrices, name) if block else None
    starts = np.cumsum([0, *(leaves[path].size for path in paths)])
    slots = tuple(Slot(path, None, (int(start),)) for path, start in zip(paths, starts, strict=False))
    return Group(name, int(starts[-1]), slots, math.lcm(round_to or 1, patterns.step(pattern)), tied or "", pattern)


def _matrix(path: str, leaves: dict[str, Array], rules: Sequence[Rule]) -> tuple[int, int]:
    if path == _bias_of(path):
        raise BadInput(f"{path} has a pattern, but nm and block are for kernels: name the kernel in the rule")
    bias = leaves.get(_bias_of(path))
    return layouts.matrix(path, leaves[path].shape, None if bias is None else bias.shape, _says(rules, path, "inputs"))


def _alike(rules: Sequence[Rule], kernels: Sequence[str], field: str, name: str) -> Any:
    """What the rules say of all kernels of a group. Raises BadInput where they say several things."""
    said = [_says(rules, path, field) for path in kernels]
    if any(value != said[0] for value in said):
        raise BadInput(f"group {name} has {field} {said[0]} and {next(v for v in said if v != said[0])}: give one")
    return said[0]


def _bias_of(path: str) -> str:
    parent, _, _ = path.rpartition("/")
    return f"{parent}/bias" if parent else "bias"


def _says(rules: Sequence[Rule], path: str, field: str) -> Any:
    """What the last matching rule that speaks of ``field`` says of a path; None where none does."""
    said = [getattr(rule, field) for rule in rules if re.fullmatch(rule.pattern, path)]
    return next((value for value in reversed(said) if value is not None and value is not False), None)


def _check_rules(rules: Sequence[Rule], leaves: dict[str, Array]) -> None:
    for rule in rules:
        try:
            pattern = re.compile(rule.pattern)
        except re.error as error:
            raise BadInput(f"rule '{rule.pattern}' is not a regular expression: {error}") from error
        found = [path for path in leaves if pattern.fullmatch(path)]
        if found and not rule.frozen and all(jnp.ndim(leaves[path]) < 2 for path in found):
            raise BadInput(
                f"rule '{rule.pattern}' matches only {found[0]}, which follows its layer's kernel: name the kernel"
            )
        if not found:
            nearest = difflib.get_close_matches(rule.pattern, leaves, len(leaves), 0.0)
            raise BadInput(f"rule '{rule.pattern}' matches no parameter; there are {', '.join(sorted(nearest[:8]))}")
