"""A network's channels against a target: what may be cut, what it costs, and which shares of the whole may stay."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_allocations, channel_budgets, channel_costs
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.pruning.latency import FEMTO, Latency
from jax_prune.types import Bounds, Group, Net

HARDLY = 0.95  # share of the latency that no cut takes away, above which asking for more is no advice
NAMED = 3  # frozen groups that a message names


class Target(NamedTuple):
    """Groups [G] that may be cut, what is frozen and why, costs, and the limits: the first is the one to meet.

    ``shares`` are what was asked for, in that order; one of the latency has a limit once it is ``timed``.
    ``pattern`` is what else was to stay whole; ``fewest`` [G] what every group keeps at least, a step where not given.
    """

    groups: tuple[Group, ...]
    frozen: tuple[grouping.Frozen, ...]
    pattern: str
    shares: dict[str, float]
    costs: dict[str, ChannelCost]
    fewest: tuple[int, ...] = ()

    @property
    def budgets(self) -> dict[str, int]:
        """The most that may be spent of every cost that is known, in its own unit; latency in femtoseconds."""
        return {name: int(share * self.whole(name)) for name, share in self.shares.items() if name in self.costs}

    @property
    def limits(self) -> tuple[Limit, ...]:
        return tuple(channel_budgets.limit(self.costs[name], budget) for name, budget in self.budgets.items())

    @property
    def bounds(self) -> Bounds:
        """Of the ratios: every group keeps ``fewest`` units, and a step, at least."""
        if not self.fewest:
            return channel_budgets.anything(self.groups)
        return channel_budgets.at_least(self.groups, np.asarray(self.fewest))

    def whole(self, name: str) -> int:
        """What the dense network costs."""
        return channel_costs.spent(self.costs[name], grouping.sizes(self.groups))


def shares(
    macs: float | None = None, parameters: float | None = None, latency: float | None = None, meet: str | None = None
) -> dict[str, float]:
    """The shares given, by cost; that to ``meet`` first, by default the first given.

    Raises BadInput for none, one outside (0, 1], and one to meet that is not given.
    """
    asked = {"macs": macs, "parameters": parameters, "latency": latency}
    given = {name: share for name, share in asked.items() if share is not None}
    if not given:
        raise BadInput("no target: give macs, parameters or latency, the share of the dense net's that may stay")
    for name, share in given.items():
        if not 0 < share <= 1:
            raise BadInput(f"{name} is {share}: give a share of the dense net's, above 0 and at most 1")
    if meet is not None and meet not in asked:
        raise BadInput(f"unknown target '{meet}': known are {', '.join(asked)}")
    if meet is not None and meet not in given:
        raise BadInput(f"target is {meet}, and no share of it is given: give {meet}, or another target")
    return dict(sorted(given.items(), key=lambda entry: entry[0] != meet))


def target(net: Net, example: Any, shares: dict[str, float], frozen: str = "", round_to: int = 1) -> Target:
    """What shares of the dense net's cost come to, and what may be cut for it; nothing is computed.

    ``example`` has leading axis 1. Raises BadInput for a pattern that matches no group, and a target that cutting all
    that may be cut does not reach: then with what is frozen, and why.
    """
    traced = grouping.traced(net, example)
    groups = _free(traced.groups, frozen, round_to)
    costs = {
        "macs": channel_costs.macs(net, groups, example),
        "parameters": channel_costs.parameters(net.params, groups),
    }
    return _checked(Target(groups, traced.frozen, frozen, shares, costs))


def timed(target: Target, model: Latency) -> Target:
    """The target with the limit of the latency, by a measured model. Raises BadInput where it cannot be met."""
    fewest, _ = channel_budgets.kept_range(target.groups, target.bounds)
    least, whole = model.predicted(fewest), model.predicted(grouping.sizes(target.groups))
    if least > target.shares["latency"] * whole:
        left = f"{1e3 * least:.3g} ms are predicted to stay when every group keeps the fewest channels that it may"
        advice = f"ask for {math.ceil(100 * least / whole) / 100:g} or more, or for a larger latency_batch"
        if least > HARDLY * whole:
            advice = "as measured, its time hardly falls with its channels: ask for macs or parameters"
        raise BadInput(
            f"latency {target.shares['latency']:g} cannot be met: of the dense net's {1e3 * whole:.3g} ms a call "
            f"{left}; {advice}"
        )
    return _checked(target._replace(costs=target.costs | {"latency": model.cost}))


def floored(target: Target, floor: float) -> Target:
    """The target where every group keeps at least the share ``floor`` of what the uniform cut to it leaves the group.

    0: a step, as before; 1: the uniform cut and nothing else. The uniform cut itself always does, so that the limits
    stay within reach. Raises BadInput as ``check_floor``.
    """
    check_floor(floor)
    if not floor:
        return target
    uniform = channel_allocations.uniform(target.groups, target.limits, target.bounds)
    # 0.1 * 30 is a little above 3 in floating point
    return target._replace(fewest=tuple(int(np.ceil(floor * count - 1e-9)) for count in uniform))


def check_floor(floor: float) -> None:
    """Raises BadInput for what is no share."""
    if not 0 <= floor <= 1:
        raise BadInput(f"floor is {floor}: give a share of what the uniform cut leaves a group, 0 to 1")


def seconds(name: str, spent: int) -> float:
    """What is spent of a cost, latency in seconds."""
    return spent / FEMTO if name == "latency" else spent


def _checked(target: Target) -> Target:
    if not target.limits:
        return target
    try:
        channel_budgets.check(target.limits, target.groups, target.bounds)
    except BadInput as error:
        raise BadInput(f"{error}; {_why(target.frozen, target.pattern)}") from error
    return target


def _free(groups: Sequence[Group], frozen: str, round_to: int) -> tuple[Group, ...]:
    """The groups that no pattern keeps whole, in steps of ``round_to``."""
    if round_to < 1:
        raise BadInput(f"round_to is {round_to}: give 1 or more")
    try:
        pattern = re.compile(frozen)
    except re.error as error:
        raise BadInput(f"frozen '{frozen}' is not a regular expression: {error}") from error
    kept = [group for group in groups if frozen and pattern.fullmatch(group.name)]
    if frozen and not kept:
        raise BadInput(f"frozen '{frozen}' matches no group; there are {', '.join(group.name for group in groups)}")
    free = tuple(group._replace(step=round_to) for group in groups if group not in kept)
    if not free:
        raise BadInput("no channel may be cut: 'jax-prune groups' says why")
    return free


def _why(frozen: Sequence[grouping.Frozen], pattern: str) -> str:
    said = [f"{entry.group.name} ({entry.group.size}: {entry.reason})" for entry in frozen[:NAMED]]
    said += [f"{len(frozen) - NAMED} more ('jax-prune groups' lists them)"] if len(frozen) > NAMED else []
    said += [f"what frozen='{pattern}' matches"] if pattern else []
    return f"frozen are {', '.join(said)}" if said else "nothing is frozen"
