"""Which counts a group may have: whole steps between its bounds, and one ratio for groups that are tied.

A group's level is its number of kept steps. What is searched are the V variables: a group of its own, or several that
are tied and follow the one among them with most levels, their lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import counts
from jax_prune.types import Array, Bounds, Group


class Lattice(NamedTuple):
    """Of G groups and V variables: int32 arrays on the host, constants of a compiled program."""

    size: np.ndarray  # [G]
    step: np.ndarray  # [G]
    levels: np.ndarray  # [G]: steps of the whole group, the last one perhaps shorter
    variable: np.ndarray  # [G]: which one sets the group
    lead: np.ndarray  # [V]: the group whose levels the variable counts
    names: tuple[str, ...]  # [V]


def of(groups: Sequence[Group] | Sequence[int]) -> Lattice:
    """The lattice of groups, or of sizes: then every count is allowed and nothing is tied."""
    groups = [entry if isinstance(entry, Group) else Group("", int(entry), ()) for entry in groups]
    size, step = (np.asarray([getattr(group, name) for group in groups], np.int32) for name in ("size", "step"))
    levels = -(-size // step)
    owners: list[str | int] = [group.tied or index for index, group in enumerate(groups)]
    order = list(dict.fromkeys(owners))
    members = [np.flatnonzero([other == owner for other in owners]) for owner in order]
    lead = np.asarray([group[np.argmax(levels[group])] for group in members], np.int32)
    names = tuple(groups[first].tied or groups[first].name for first in lead)
    return Lattice(size, step, levels, np.asarray([order.index(owner) for owner in owners], np.int32), lead, names)


def check_length(lattice: Lattice, genome: Array) -> None:
    """Raises BadInput for a genome that has not one entry for each variable."""
    if genome.shape != lattice.lead.shape:
        raise BadInput(
            f"a genome has shape {list(genome.shape)}: search {list(lattice.lead.shape)}, the fitness's own box"
        )


def fine(groups: Sequence[Group]) -> bool:
    """Whether every count of every group is allowed and nothing is tied."""
    return all(group.step == 1 and not group.tied for group in groups)


def level_range(lattice: Lattice, bounds: Bounds) -> tuple[Array, Array]:
    """The fewest and the most levels int32 [G] that the bounds of the ratios [G] allow; they may be traced.

    A bound between two levels counts as the one inside it, and where none lies inside, as the one below; tied groups
    have the tightest bounds among them. A group that may not be emptied keeps one step at least.
    """
    tightest = variable_bounds(lattice, bounds)
    lower, upper = (jnp.asarray(side)[lattice.variable] for side in tightest)
    fewest, most = (counts.kept_count(ratio, lattice.size) for ratio in (upper, lower))
    high = jnp.maximum(_level(lattice, most), most > 0)
    low = -(-jnp.maximum(fewest - _slack(lattice), 0) // lattice.step)
    return jnp.minimum(jnp.maximum(low, fewest > 0), high), high


def variable_bounds(lattice: Lattice, bounds: Bounds) -> Bounds:
    """The ratio bounds of the variables, float32 [V]: the tightest of their groups'; lower ones win."""
    variables = len(lattice.names)
    lower = jax.ops.segment_max(jnp.asarray(bounds.lower, jnp.float32), lattice.variable, variables)
    upper = jax.ops.segment_min(jnp.asarray(bounds.upper, jnp.float32), lattice.variable, variables)
    return Bounds(lower, jnp.maximum(upper, lower))


def kept(lattice: Lattice, level: Array, low: Array, high: Array) -> Array:
    """Counts int32 [G] at the variables' levels int32 [V], within the groups' levels ``low`` to ``high`` [G]."""
    lead, own = lattice.lead[lattice.variable], level[lattice.variable]
    share = own.astype(jnp.float32) / jnp.asarray(lattice.levels[lead], jnp.float32)
    own = jnp.where(lattice.levels == lattice.levels[lead], own, counts.removed(share, lattice.levels))
    return _units(lattice, jnp.clip(own, low, high))


def kept_range(lattice: Lattice, bounds: Bounds) -> tuple[Array, Array]:
    """The fewest and the most units int32 [G] that the bounds of the ratios let each group keep."""
    low, high = level_range(lattice, bounds)
    return _units(lattice, low), _units(lattice, high)


def kept_at(lattice: Lattice, ratios: Array, bounds: Bounds) -> Array:
    """Counts int32 [G] at the variables' pruning ratios float32 [V]: n - floor(ratio * n), down to whole steps."""
    units = counts.kept_count(ratios[lattice.variable], lattice.size)
    return _units(lattice, jnp.clip(_level(lattice, units), *level_range(lattice, bounds)))


def _level(lattice: Lattice, units: Array) -> Array:
    """The whole steps in ``units`` int32 [G]."""
    near = units + jnp.minimum(_slack(lattice), lattice.size - units)
    return jnp.where(units >= lattice.size, lattice.levels, near // lattice.step)


def _units(lattice: Lattice, level: Array) -> Array:
    return jnp.where(level == lattice.levels, lattice.size, level * lattice.step)


def _slack(lattice: Lattice) -> np.ndarray:
    """By how much a float32 ratio may miss the count of whole steps, above 2**22 entries: those steps are meant."""
    return np.minimum(lattice.size >> 22, lattice.step // 2)
