"""A network's channels within a target's limits: what ranks them, which stay, and the smaller network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import evosearch, learning, nets, storage
from jax_prune.errors import BadInput
from jax_prune.learning import ExampleFunction
from jax_prune.pruning import channel_allocations, channel_scores, compact
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import masks as masking
from jax_prune.rounds import few
from jax_prune.stages import Stage
from jax_prune.targets import Target
from jax_prune.types import Array, Batch, Group, Net

SCORES = ("taylor", "norm", "l1", "l2", "group", "random")
STATIC = ("uniform", "global", "group_magnitude", "lamp")


class Chosen(NamedTuple):
    """Which units stay, bool [n_g] of every group, and what a search saw, if there was one."""

    flags: tuple[np.ndarray, ...]
    arrays: dict[str, Any]
    facts: dict[str, Any]

    @property
    def counts(self) -> np.ndarray:
        """Kept units int64 [G]."""
        return np.asarray([flag.sum() for flag in self.flags], np.int64)


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
    return Chosen(strongest(ranking, groups, counts), {}, {})


def chosen_uniformly(ranking: Sequence[Array], target: Target) -> Chosen:
    """One share of every group, units by a ``ranking``: beside a search by it, what the search's counts are worth."""
    counts = channel_allocations.uniform(target.groups, target.limits, target.bounds)
    return Chosen(strongest(ranking, target.groups, counts), {}, {})


def masked_loss(
    net: Net,
    target: Target,
    sample: Batch,
    ranking: Sequence[Array],
    loss: ExampleFunction,
    statistics: Batch | None = None,
) -> evosearch.MaskedLoss:
    """What a search asks of the net with some channels masked, the lowest of the ``ranking`` first.

    Batch statistics are taken over a few of the ``sample``, or of the examples ``statistics``.
    """
    ranks = masking.ranks(tuple(ranking), target.groups)
    recalibration = few((sample if statistics is None else statistics).x)
    return evosearch.masked_loss(net, target.groups, ranks, sample, loss, recalibration=recalibration)


def strongest(ranking: Sequence[Array], groups: Sequence[Group], counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """The ``counts`` [G] highest of a ``ranking`` [n_g]: bool [n_g] of every group."""
    ranks = masking.ranks(tuple(ranking), tuple(groups))
    return tuple(
        np.asarray(rank) >= group.size - count for rank, group, count in zip(ranks, groups, counts, strict=True)
    )


def stage_of(chosen: Chosen) -> Stage:
    """A choice as a stage on disk."""
    flags = {f"{number:04}": flag for number, flag in enumerate(chosen.flags)}
    return Stage({"flags": flags, "seen": chosen.arrays}, chosen.facts)


def read(stage: Stage) -> Chosen:
    """And back."""
    flags = stage.arrays["flags"]
    found = tuple(np.asarray(flags[name], bool) for name in sorted(flags))
    return Chosen(found, stage.arrays.get("seen", {}), stage.facts)


def save(
    path: Path,
    small: Net,
    groups: Sequence[Group],
    flags: Sequence[np.ndarray],
    made: dict[str, Any],
    example: Any,
    dataset: str | None = None,
    fed: dict[str, Any] | None = None,
) -> int:
    """The smaller network: its arrays, which units of which groups they are, and what the whole one was ``made`` of.

    ``flags`` bool [n_g] of every group; ``made`` are the arguments of ``nets.build``; ``dataset`` is what it was
    trained on, and ``fed``, JSON, what else is to be known to feed it. Gives the file's bytes.
    """
    trees = {"params": small.params, **({"state": small.state} if small.state else {})}
    flat = {name: np.asarray(leaf) for name, leaf in storage.flatten_paths(trees).items()}
    kept = {g.name: np.flatnonzero(flag).tolist() for g, flag in zip(groups, flags, strict=True)}
    input_of = {"shape": list(example.shape[1:]), "dtype": str(example.dtype)}
    meta = {"kind": "compact", "made": made, "input": input_of, "kept": kept, "dataset": dataset, "fed": fed}
    return storage.save_arrays(path, flat, meta)


class Saved(NamedTuple):
    """What ``save`` wrote: the smaller network, the whole one that it was cut from, untrained, and its ``example``."""

    net: Net
    whole: Net
    made: dict[str, Any]
    dataset: str | None
    example: jax.ShapeDtypeStruct  # leading axis 1
    fed: dict[str, Any]


def load(path: str | Path) -> Net:
    """The network that ``save`` wrote: ``net(x)``, or ``net.rebuild(net.params, net.state)`` for its module.

    Raises BadInput as ``read_saved``.
    """
    return read_saved(path).net


def read_saved(path: str | Path) -> Saved:
    """All that ``save`` wrote. Raises BadInput for another file, or one that was cut from another network."""
    arrays, meta = storage.load_arrays(path)
    if meta.get("kind") != "compact":
        raise BadInput(
            f"{path} holds no smaller network: give a compact.safetensors that jax-prune channels or har wrote"
        )
    whole = nets.build(**meta["made"])
    example = jax.ShapeDtypeStruct((1, *meta["input"]["shape"]), meta["input"]["dtype"])
    groups = {group.name: group for group in grouping.trace(whole, example)}
    if missing := [name for name in meta["kept"] if name not in groups]:
        raise BadInput(f"{path} was cut from another network: this one has no group {missing[0]}")
    found = [groups[name] for name in meta["kept"]]
    small = compact(whole, found, [np.asarray(kept) for kept in meta["kept"].values()], example=example)
    trees = jax.tree.map(jnp.asarray, storage.unflatten_paths(arrays))
    net = small.replace(params=trees["params"], state=trees.get("state", {}))
    return Saved(net, whole, meta["made"], meta.get("dataset"), example, meta.get("fed") or {})
