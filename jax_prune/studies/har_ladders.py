"""The ladders of ``har``: a trained network loses more from rung to rung, weights one by one or hidden units whole.

Every rung begins where the one above ended, and is tuned for equally many steps, with the dense network as teacher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import learning, narrowing
from jax_prune.compress import Compressed, compress
from jax_prune.datasets.har import Fold
from jax_prune.errors import BadInput
from jax_prune.plan import checked
from jax_prune.pruning import compact
from jax_prune.pruning import groups as grouping
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.studies import har_measuring, har_settings
from jax_prune.studies.har import Config
from jax_prune.types import Array, Group, Masks, Net

SCORE = "taylor"  # of hidden units and filters


class Pruned(NamedTuple):
    """A share ``removed`` in one ``way``, "weights" or "hidden": nets, masks and counts kept int [G] of every seed.

    ``flags`` say which units of the dense network's groups stay, bool [n_g]; nothing of weights, which have ``masks``.
    """

    net: str
    way: str
    removed: float
    nets: tuple[Net, ...]
    groups: tuple[Group, ...]
    kept: tuple[np.ndarray, ...]
    validation: tuple[float, ...]
    masks: tuple[Masks, ...] = ()
    flags: tuple[tuple[np.ndarray, ...], ...] = ()

    @property
    def key(self) -> str:
        """Its name among what is measured."""
        return f"{self.way}:{self.net}:{self.removed:g}"


def check(config: Config, net: Net, fold: Fold) -> None:
    """Raises BadInput for a rung that leaves a layer, or a group, nothing."""
    for share in config.weights:
        checked(har_settings.plan_of(config, share), net, fold.train.x[:1])
    groups = grouping.trace(net, fold.train.x[:1])
    above = grouping.sizes(groups)
    for removed in config.hidden:
        if not groups:
            raise BadInput(f"hidden is {removed:g}: no unit of a network of single units can go; give more units")
        counts = counts_of(groups, removed)
        for group, count, before in zip(groups, counts, above, strict=True):
            left = f"hidden={removed:g} leaves {count} of {group.size} units of {group.name}"
            if count < 1:
                raise BadInput(f"{left}: remove less, or give more units")
            if count == before:
                raise BadInput(f"{left}, as many as the rung above: leave a rung out, or give more units")
            if count == 1 and removed != config.hidden[-1]:
                raise BadInput(f"{left}, and a single unit cannot be ranked further down: end the ladder there")
        above = counts


def counts_of(groups: Sequence[Group], removed: float) -> np.ndarray:
    """Units that stay of every group when the share ``removed`` goes, or a little more: int [G]."""
    return np.array([group.size - math.ceil(removed * group.size - 1e-9) for group in groups])


def with_arrays(net: Net, arrays: dict[str, Any]) -> Net:
    """The net with the parameters and state of a stage; what is empty is not on disk."""
    trees = jax.tree.map(jnp.asarray, {name: arrays.get(name, {}) for name in ("params", "state")})
    return net.replace(params=trees["params"], state=trees["state"])


def descend(config: Config, name: str, dense: Sequence[Net], fold: Fold, stages: Stages) -> tuple[Pruned, ...]:
    """Both ladders of the network ``name``, from every seed's ``dense`` one."""
    by_seed, at_once = [], config.at_once  # candidates evaluated together: the first search of all probes how many
    for seed, net in zip(har_settings.seeds_of(config), dense, strict=True):
        weights, at_once = _by_weight(config, name, seed, net, fold, stages, at_once)
        by_seed.append([*weights, *_by_unit(config, name, seed, net, fold, stages)])
    return tuple(_together(rungs) for rungs in zip(*by_seed, strict=True))


def _together(rungs: Sequence[Pruned]) -> Pruned:
    """One rung of all seeds."""
    parts = ("nets", "kept", "validation", "masks", "flags")
    joined: dict[str, Any] = {name: sum((getattr(own, name) for own in rungs), ()) for name in parts}
    return rungs[0]._replace(**joined)


def _by_weight(
    config: Config, name: str, seed: int, dense: Net, fold: Fold, stages: Stages, at_once: int
) -> tuple[list[Pruned], int]:
    """Layer-wise ratios by differential evolution, a round a rung; removed connections may return while tuning."""
    net, splits, rungs = dense, fold.splits, []
    recipe = har_settings.recipe_of(config, fold.scaling, config.tune_rate)
    for removed in config.weights:
        place = f"weights/{name}/{removed:g}/seed_{seed}"
        found: Compressed = compress(
            stage_key(jax.random.key(seed), place), net, splits.train, splits.validation,
            har_settings.plan_of(config, removed, recipe, at_once), teacher=dense, stages=stages.within(place),
        )  # fmt: skip
        net, (round_,) = found.net, found.rounds
        at_once = round_.search.facts["at_once"]
        validation = round_.tuned.facts["validation"]
        rungs.append(
            Pruned(name, "weights", removed, (net,), found.groups, (found.kept,), (validation,), masks=(found.masks,))
        )
    return rungs, at_once


def _by_unit(config: Config, name: str, seed: int, dense: Net, fold: Fold, stages: Stages) -> Iterator[Pruned]:
    """The same share of every traced group, its lowest by Taylor score; the network gets smaller at every rung."""
    example = fold.train.x[:1]
    groups = grouping.trace(dense, example)
    net, flags = dense, tuple(np.ones(group.size, bool) for group in groups)
    for removed in config.hidden:
        place = f"hidden/{name}/{removed:g}/seed_{seed}"
        key = stage_key(jax.random.key(seed), place)
        stage = stages(place, partial(_cut_and_tuned, key, config, net, dense, flags, removed, fold, place))
        flags = tuple(np.asarray(stage.arrays["flags"][f"{g:04}"], bool) for g in range(len(groups)))
        net = with_arrays(compact(dense, groups, flags, example=example), stage.arrays)
        kept = np.array([flag.sum() for flag in flags])
        yield Pruned(name, "hidden", removed, (net,), groups, (kept,), (stage.facts["validation"],), flags=(flags,))


def _cut_and_tuned(
    key: Array, config: Config, net: Net, dense: Net, flags: tuple[np.ndarray, ...], removed: float, fold: Fold,
    title: str,
) -> Stage:  # fmt: skip
    example, data = fold.train.x[:1], fold.splits.train
    groups, recipe = grouping.trace(net, example), har_settings.recipe_of(config, fold.scaling, config.tune_rate)
    ranking = narrowing.scored(stage_key(key, "scores"), net, groups, data, learning.cross_entropy, SCORE)
    left = narrowing.strongest(ranking, groups, counts_of(grouping.trace(dense, example), removed))
    small = compact(net, groups, left, example=example)
    before = har_measuring.accuracy(small, fold.splits.validation)
    asked = config.tune_steps * config.batch_size
    trained = learning.train(
        stage_key(key, "tune"), small, jax.device_put(data), recipe, loss=har_settings.loss_of(config),
        steps=config.tune_steps, title=title,
        teacher=learning.teacher_of(dense, data, recipe.augment, asked) if config.distillation else None,
    )  # fmt: skip
    everything = [flag.copy() for flag in flags]
    for flag, own in zip(everything, left, strict=True):
        flag[flag] = own
    arrays: dict[str, Any] = {"params": trained.net.params, "state": trained.net.state}
    arrays["flags"] = {f"{g:04}": flag for g, flag in enumerate(everything)}
    validation = har_measuring.accuracy(trained.net, fold.splits.validation)
    return Stage(arrays, {"validation": validation, "validation_before": before,
                          "losses": [float(loss) for loss in trained.losses]})  # fmt: skip
