"""A network's channels against a target: what may be cut, what it costs, which stay, and the smaller network."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import evosearch, learning, nets, storage
from jax_prune.errors import BadInput
from jax_prune.evosearch import probe
from jax_prune.learning import ExampleFunction
from jax_prune.pruning import channel_allocations, channel_budgets, channel_costs, channel_scores, compact
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import masks as masking
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.rounds import few
from jax_prune.searching import searched
from jax_prune.stages import Stage, Stages
from jax_prune.types import Array, Batch, Bounds, Group, Net

SCORES = ("taylor", "norm", "l1", "l2", "group", "random")
STATIC = ("uniform", "global", "group_magnitude", "lamp")
KNOWN = ("uniform", "global", "lamp")  # their counts are a search's first candidates; group_magnitude's are uniform's
NAMED = 3  # frozen groups that a message names


class Target(NamedTuple):
    """Groups [G] that may be cut, what is frozen and why, both costs, and the limits: the first is the one to meet."""

    groups: tuple[Group, ...]
    frozen: tuple[grouping.Frozen, ...]
    costs: dict[str, ChannelCost]
    limits: tuple[Limit, ...]
    budgets: dict[str, int]

    @property
    def bounds(self) -> Bounds:
        """Every group keeps a step at least."""
        return channel_budgets.anything(self.groups)


class Chosen(NamedTuple):
    """Which units stay, bool [n_g] of every group, and what a search saw, if there was one."""

    flags: tuple[np.ndarray, ...]
    arrays: dict[str, Any]
    facts: dict[str, Any]

    @property
    def counts(self) -> np.ndarray:
        """Kept units int64 [G]."""
        return np.asarray([flag.sum() for flag in self.flags], np.int64)


def target(
    net: Net, example: Any, macs: float | None, parameters: float | None, frozen: str = "", round_to: int = 1
) -> Target:
    """What shares of the dense net's cost come to, and what may be cut for it; nothing is computed.

    ``example`` has leading axis 1. Raises BadInput for no share, one outside (0, 1], a pattern that matches no group,
    and a target that cutting all that may be cut does not reach: then with what is frozen, and why.
    """
    shares = {name: share for name, share in (("macs", macs), ("parameters", parameters)) if share is not None}
    if not shares:
        raise BadInput("no target: give macs or parameters, the share of the dense net's that may stay")
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise BadInput(f"{name} is {share}: give a share of the dense net's, above 0 and at most 1")
    traced = grouping.traced(net, example)
    groups = _free(traced.groups, frozen, round_to)
    costs = {
        "macs": channel_costs.macs(net, groups, example),
        "parameters": channel_costs.parameters(net.params, groups),
    }
    whole = {name: channel_costs.spent(cost, grouping.sizes(groups)) for name, cost in costs.items()}
    budgets = {name: int(share * whole[name]) for name, share in shares.items()}
    limits = tuple(channel_budgets.limit(costs[name], budget) for name, budget in budgets.items())
    found = Target(groups, traced.frozen, costs, limits, budgets)
    try:
        channel_budgets.check(limits, groups, found.bounds)
    except BadInput as error:
        raise BadInput(f"{error}; {_why(traced.frozen, frozen)}") from error
    return found


def cut(net: Net, target: Target, flags: Sequence[np.ndarray], example: Any) -> Net:
    """The physically smaller network. Raises BadInput as ``compact``."""
    return compact(net, target.groups, flags, example=example)


def scored(
    key: Array, net: Net, groups: tuple[Group, ...], data: Batch, loss: ExampleFunction, kind: str
) -> tuple[Array, ...]:
    """What every unit is worth, [n_g]. Raises BadInput for an unknown kind, and for one that the network has not."""
    kinds: dict[str, Callable[[], tuple[Array, ...]]] = {
        "taylor": lambda: learning.mean_over_batches(
            key, net, jax.device_put(data), loss, partial(channel_scores.taylor, groups=groups)
        ),
        "norm": lambda: channel_scores.norm_scale(net.params, groups),
        "l1": lambda: channel_scores.magnitude(net.params, groups, 1),
        "l2": lambda: channel_scores.magnitude(net.params, groups, 2),
        "group": lambda: channel_scores.group_magnitude(net.params, groups),
        "random": lambda: channel_scores.random(key, groups),
    }
    if kind not in kinds:
        raise BadInput(f"unknown score '{kind}': known are {', '.join(kinds)}")
    return kinds[kind]()


def chosen_by(way: str, net: Net, target: Target) -> Chosen:
    """Which units an allocation without a search keeps, see ``pruning.channel_allocations``.

    ``uniform``: one share, ranked by L1; ``global``: L1 over all groups; ``group_magnitude``: one share, ranked over
    makers and users as Torch-Pruning does by default; ``lamp``: of these over all groups. Raises BadInput for another.
    """
    groups, limits, bounds = target.groups, target.limits, target.bounds
    if way in ("uniform", "global"):
        ranking = channel_scores.magnitude(net.params, groups)
    elif way in ("group_magnitude", "lamp"):
        ranking = channel_scores.group_magnitude(net.params, groups)
    else:
        raise BadInput(f"unknown way '{way}': known are {', '.join(STATIC)}")
    if way in ("uniform", "group_magnitude"):
        counts = channel_allocations.uniform(groups, limits, bounds)
    else:
        counts = channel_allocations.by_score(
            channel_scores.lamp(ranking) if way == "lamp" else ranking, groups, limits, bounds
        )
    return Chosen(_strongest(ranking, groups, counts), {}, {})


def chosen_uniformly(ranking: Sequence[Array], target: Target) -> Chosen:
    """One share of every group, units by a ``ranking``: beside a search by it, what the search's counts are worth."""
    counts = channel_allocations.uniform(target.groups, target.limits, target.bounds)
    return Chosen(_strongest(ranking, target.groups, counts), {}, {})


def chosen_by_search(
    key: Array,
    net: Net,
    target: Target,
    sample: Batch,
    ranking: tuple[Array, ...],
    config: evosearch.Config,
    loss: ExampleFunction,
    stages: Stages,
    memory: int,
) -> Chosen:
    """The counts with the least loss on the ``sample`` within the target's limits; units stay by their ``ranking``.

    The search begins with the allocations that need none. How many candidates at once is probed once, and kept.
    """
    ranks = masking.ranks(ranking, target.groups)
    masked = evosearch.masked_loss(net, target.groups, ranks, sample, loss, recalibration=few(sample.x))
    fitness = evosearch.channel_loss(masked, target.limits, target.bounds)
    start = np.stack([evosearch.genome_of(chosen_by(way, net, target).counts, target.groups) for way in KNOWN])

    def probed() -> Stage:
        genomes = jnp.tile(jnp.asarray(start[0]), (config.population, 1))
        return Stage({}, {"at_once": probe.at_once(fitness, genomes, memory_limit=memory)})

    width = stages("probe", probed).facts["at_once"]
    settings = dataclasses.replace(config, at_once=width)
    found = searched(
        key, settings, fitness.box, fitness, start[: config.population], stages.scratch("search", "search")
    )
    counts = np.asarray(fitness.kept(jnp.asarray(found.best)), np.int64)
    facts = {
        "loss": float(found.score.value),
        "at_once": width,
        "work": evosearch.history.share_of_work(found.info) if width == 1 else None,
        # their counts, by this search's own ranking
        "known": dict(zip(KNOWN, map(float, found.info.score.value[0][: len(KNOWN)]), strict=True)),
    }
    return Chosen(_strongest(ranking, target.groups, counts), evosearch.history.seen(found.info, fitness), facts)


def _strongest(ranking: Sequence[Array], groups: Sequence[Group], counts: np.ndarray) -> tuple[np.ndarray, ...]:
    ranks = masking.ranks(tuple(ranking), tuple(groups))
    return tuple(
        np.asarray(rank) >= group.size - count for rank, group, count in zip(ranks, groups, counts, strict=True)
    )


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


def stage_of(chosen: Chosen) -> Stage:
    """A choice as a stage on disk."""
    flags = {f"{number:04}": flag for number, flag in enumerate(chosen.flags)}
    return Stage({"flags": flags, "seen": chosen.arrays}, chosen.facts)


def read(stage: Stage) -> Chosen:
    """And back."""
    flags = stage.arrays["flags"]
    found = tuple(np.asarray(flags[name], bool) for name in sorted(flags))
    return Chosen(found, stage.arrays.get("seen", {}), stage.facts)


def save(path: Path, small: Net, target: Target, chosen: Chosen, made: dict[str, Any], example: Any) -> None:
    """The smaller network: its arrays, which units of which groups they are, and what the whole one was ``made`` of.

    ``made`` are the arguments of ``nets.build``.
    """
    trees = {"params": small.params, **({"state": small.state} if small.state else {})}
    flat = {name: np.asarray(leaf) for name, leaf in storage.flatten_paths(trees).items()}
    kept = {g.name: np.flatnonzero(flag).tolist() for g, flag in zip(target.groups, chosen.flags, strict=True)}
    input_of = {"shape": list(example.shape[1:]), "dtype": str(example.dtype)}
    storage.save_arrays(path, flat, {"kind": "compact", "made": made, "input": input_of, "kept": kept})


def load(path: str | Path) -> Net:
    """The network that ``save`` wrote: ``net(x)``, or ``net.rebuild(net.params, net.state)`` for its module.

    Raises BadInput for another file.
    """
    arrays, meta = storage.load_arrays(path)
    if meta.get("kind") != "compact":
        raise BadInput(f"{path} holds no smaller network: give a compact.safetensors that jax-prune channels wrote")
    whole = nets.build(**meta["made"])
    example = jax.ShapeDtypeStruct((1, *meta["input"]["shape"]), meta["input"]["dtype"])
    groups = {group.name: group for group in grouping.trace(whole, example)}
    if missing := [name for name in meta["kept"] if name not in groups]:
        raise BadInput(f"{path} was cut from another network: this one has no group {missing[0]}")
    found = [groups[name] for name in meta["kept"]]
    small = compact(whole, found, [np.asarray(kept) for kept in meta["kept"].values()], example=example)
    trees = jax.tree.map(jnp.asarray, storage.unflatten_paths(arrays))
    return small.replace(params=trees["params"], state=trees.get("state", {}))
