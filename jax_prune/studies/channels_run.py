"""How ``channels`` runs: data and net in, every way to the target, the test split once, the report out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_prune import compress, datasets, evosearch, learning, narrowing, nets
from jax_prune.errors import BadInput
from jax_prune.fitting import check_fit
from jax_prune.learning import Recipe, gates
from jax_prune.narrowing import Chosen, Target
from jax_prune.nets.gating import Gated, gate
from jax_prune.pruning import latency
from jax_prune.report import Report
from jax_prune.rounds import judged_as_candidates
from jax_prune.stages import Stage, Stages, locked, refuse_other, stage_key
from jax_prune.studies import channels_report, measuring, options
from jax_prune.studies.channels import DURING, RANKED, Config
from jax_prune.types import Array, Net

WAYS = ("search", *DURING, "uniform_score", *narrowing.STATIC)
OPTIMIZERS = {"adam": optax.scale_by_adam, "sgd": partial(optax.trace, decay=0.9)}
AUGMENTATIONS: dict[str, learning.Augmentation | None] = {
    "none": None,
    "shift": learning.RandomShift(1),
    "crop_and_flip": learning.CROP_AND_FLIP,
}
BATCHES = (1, 256)  # of the latencies in the report


class Way(NamedTuple):
    """One way's result: the smaller net, which channels it has, and the training that ended it."""

    net: Net
    chosen: Chosen
    trained: Stage


class Run(NamedTuple):
    """What a finished run knows, for its report."""

    config: Config
    target: Target
    dense: Net
    ways: dict[str, Way]
    gated: Gated | None
    errors: dict[str, Any]
    seconds: dict[str, dict[str, float]]  # of a call, by net and batch
    stages: Stages
    example: Any


def run(config: Config, workdir: str) -> Report:
    """The whole study; see ``channels.run``."""
    settings = dataclasses.asdict(config)
    refuse_other(workdir, settings)
    splits, net, target, gated = examined(config)
    key, example = jax.random.key(config.seed), splits.train.x[:1]
    with locked(workdir):
        stages = Stages(workdir, settings)  # claims the folder: nothing refused so far left anything in it
        after = [way for way in config.ways if way not in DURING]
        dense = trained(key, config, net, splits, stages, "dense", config.dense_steps) if after else net
        reference = trained(key, config, net, splits, stages, "reference", config.dense_steps + config.tune_steps)
        ranking = partial(ranked, key, config, dense, target, splits, stages)
        ways = {}
        for way in config.ways:
            inner = stages.within(f"ways/{way}")
            if way in DURING:
                assert gated is not None
                ways[way] = during(key, way, config, net, target, gated, splits, inner)
            else:
                ways[way] = afterwards(key, way, config, dense, target, ranking, splits, inner)
        smaller = {f"way:{way}": found.net for way, found in ways.items()}
        starts: dict[str, Net] = {"dense": dense} if after else {}
        errors = stages("errors", partial(measuring.measure, starts | {"reference": reference} | smaller, splits,
                                          config.test)).facts  # fmt: skip
        timed = {"reference": reference} | smaller
        seconds = stages("latency", partial(timing, timed, splits.validation.x)).facts
        finished = Run(config, target, reference, ways, gated, errors, seconds, stages, example)
        return channels_report.write(finished, Path(workdir))


def examined(config: Config) -> tuple[datasets.Splits, Net, Target, Gated | None]:
    """The data, the untrained net, the target, and the net with gates where a way needs them.

    Raises BadInput for whatever of the config cannot be done.
    """
    check(config)
    splits = datasets.load(config.dataset, data_dir=config.data_dir)
    net = nets.build(**channels_report.made_of(config))
    check_fit(net, splits.train, learning.cross_entropy, learning.correct, config.dataset, recipe_of(config).augment)
    target = narrowing.target(net, splits.train.x[:1], config.macs, config.parameters, config.frozen, config.round_to)
    gates_of = bool(set(config.ways) & set(DURING))
    gated = gate(net, target.groups, splits.train.x[: config.batch_size]) if gates_of else None
    _check_ways(config, net, target, gated, splits)
    return splits, net, target, gated


def _check_ways(config: Config, net: Net, target: Target, gated: Gated | None, splits: datasets.Splits) -> None:
    """Every way's choice, on the untrained net and few examples: what a network lacks is said before it is trained."""
    few = jax.tree.map(lambda leaf: leaf[:8], splits.train)
    if gated is not None:
        gates.check_silence(net, _gating("gates", gated, target).gated, few.x)
    if set(config.ways) & set(RANKED):

        def scored(net: Net) -> tuple[Array, ...]:
            key = jax.random.key(0)
            return narrowing.scored(key, net, target.groups, few, learning.cross_entropy, config.score)

        # gradients would be compiled for nothing: their shapes tell as much
        _ = jax.eval_shape(scored, net) if config.score == "taylor" else scored(net)
    static = [way for way in config.ways if way in narrowing.STATIC] or ["uniform"] * bool(
        set(config.ways) & set(RANKED)
    )
    flags = [narrowing.chosen_by(way, net, target).flags for way in static]
    halves = tuple(np.arange(group.size) % 2 == 0 for group in target.groups)
    narrowing.cut(net, target, flags[0] if flags else halves, few.x[:1])


def check(config: Config) -> None:
    """Raises BadInput for settings that no net or data could mend."""
    for way in config.ways:
        if way not in WAYS:
            raise BadInput(f"unknown way '{way}': known are {', '.join(WAYS)}")
    if config.score not in narrowing.SCORES:
        raise BadInput(f"unknown score '{config.score}': known are {', '.join(narrowing.SCORES)}")
    least = {"dense_steps": 1, "tune_steps": 1, "batch_size": 1, "calibration": 1, "round_to": 1, "seed": 0,
             "learning_rate": 0, "tune_rate": 0, "weight_decay": 0}  # fmt: skip
    options.at_least(config, least)
    for name in ("width", "memory"):
        if getattr(config, name) <= 0:
            raise BadInput(f"{name} is {getattr(config, name)}: give a number above 0")
    for name in ("dense_steps", "tune_steps"):
        if getattr(config, name) % learning.CHUNK:
            raise BadInput(f"{name} is {getattr(config, name)}: give a multiple of {learning.CHUNK}")
    recipe_of(config)
    _search(config)


def recipe_of(config: Config, share: float = 1.0) -> Recipe:
    """Of all training, at a ``share`` of the peak rate."""
    if config.optimizer not in OPTIMIZERS:
        raise BadInput(f"unknown optimizer '{config.optimizer}': known are {', '.join(OPTIMIZERS)}")
    if config.augment not in AUGMENTATIONS:
        raise BadInput(f"unknown augmentation '{config.augment}': known are {', '.join(AUGMENTATIONS)}")
    return Recipe(
        direction=OPTIMIZERS[config.optimizer],
        learning_rate=config.learning_rate * share,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        augment=AUGMENTATIONS[config.augment],
        coupled=config.optimizer == "sgd",
    )


def trained(
    key: Array, config: Config, net: Net, splits: datasets.Splits, stages: Stages, name: str, steps: int
) -> Net:
    """``net`` after so many steps of training, as the stage ``name``."""
    stage = stages(name, partial(_train, stage_key(key, name), config, net, splits, name, steps, 1.0, None))
    return _with(net, stage)


def ranked(
    key: Array, config: Config, dense: Net, target: Target, splits: datasets.Splits, stages: Stages
) -> tuple[Array, ...]:
    """What every unit of the trained net is worth, [n_g]: one ranking for all ways that go by ``config.score``."""

    def scored() -> Stage:
        found = narrowing.scored(
            stage_key(key, "scores"), dense, target.groups, splits.train, learning.cross_entropy, config.score
        )
        return Stage({f"{number:04}": score for number, score in enumerate(found)}, {})

    arrays = stages("scores", scored).arrays
    return tuple(jnp.asarray(arrays[name]) for name in sorted(arrays))


def afterwards(
    key: Array, way: str, config: Config, dense: Net, target: Target, ranking: Callable[[], tuple[Array, ...]],
    splits: datasets.Splits, stages: Stages,
) -> Way:  # fmt: skip
    """Channels chosen in the trained net, cut out, and the rest tuned."""
    sampled = partial(compress.calibration_sample, stage_key(key, "calibration"), splits.train, config.calibration)

    def choose() -> Stage:
        if way in narrowing.STATIC:
            return narrowing.stage_of(narrowing.chosen_by(way, dense, target))
        if way == "uniform_score":
            return narrowing.stage_of(narrowing.chosen_uniformly(ranking(), target))
        return narrowing.stage_of(
            narrowing.chosen_by_search(
                stage_key(key, "search"), dense, target, sampled(), ranking(), _search(config), learning.cross_entropy,
                stages, int(config.memory * 2**30),
            )
        )  # fmt: skip

    chosen = narrowing.read(stages("search" if way == "search" else "chosen", choose))
    small = narrowing.cut(dense, target, chosen.flags, splits.train.x[:1])

    def tune() -> Stage:
        judged = judged_as_candidates(small, sampled())
        (before,) = learning.evaluate(judged, splits.validation, learning.correct)
        stage = _train(
            stage_key(key, "tuned"), config, small, splits, f"{way}: tune", config.tune_steps, config.tune_rate, None
        )
        return stage._replace(facts=stage.facts | {"validation_before": before})

    stage = stages("tuned", tune)
    return Way(_with(small, stage), chosen, stage)


def during(
    key: Array, way: str, config: Config, net: Net, target: Target, gated: Gated, splits: datasets.Splits,
    stages: Stages,
) -> Way:  # fmt: skip
    """One training in which channels go; they are cut out at its end."""
    gating = _gating(way, gated, target)
    steps = config.dense_steps + config.tune_steps
    stage = stages(
        "trained",
        partial(_train, stage_key(key, "reference"), config, net, splits, f"{way}: train", steps, 1.0, gating),
    )
    chosen = narrowing.read(stage)
    small = narrowing.cut(_with(net, stage), target, chosen.flags, splits.train.x[:1])
    return Way(small, chosen, stage)


def timing(timed: dict[str, Net], inputs: Any) -> Stage:
    """Seconds of a jitted call, warm, in turns: medians, by net and batch."""
    facts: dict[str, dict[str, float]] = {name: {} for name in timed}
    for batch in BATCHES:
        x = jnp.asarray(np.resize(inputs, (batch, *inputs.shape[1:])))
        for name, seconds in zip(timed, latency.measure(list(timed.values()), x), strict=True):
            facts[name][str(batch)] = float(seconds)
    return Stage({}, facts)


def _train(
    key: Array, config: Config, net: Net, splits: datasets.Splits, title: str, steps: int, share: float,
    gating: gates.Gating | None,
) -> Stage:  # fmt: skip
    result = learning.train(
        key, net, jax.device_put(splits.train), recipe_of(config, share), loss=learning.cross_entropy, steps=steps,
        gating=gating, title=title,
    )  # fmt: skip
    (accuracy,) = learning.evaluate(result.net, splits.validation, learning.correct)
    arrays: dict[str, Any] = {"params": result.net.params, "state": result.net.state}
    if gating is not None:
        arrays |= narrowing.stage_of(Chosen(result.kept, {}, {})).arrays
    facts = {"validation": accuracy, "losses": [float(loss) for loss in result.losses]}
    return Stage(arrays, facts | {"steps": learning.chunks_of(steps) * learning.CHUNK})


def _with(net: Net, stage: Stage) -> Net:
    arrays = jax.tree.map(jnp.asarray, {name: stage.arrays.get(name, {}) for name in ("params", "state")})
    return net.replace(params=arrays["params"], state=arrays["state"])


def _gating(way: str, gated: Gated, target: Target) -> gates.Gating:
    """Raises BadInput where nothing can be gated, or the target not be met by what can."""
    budgets = [(target.costs[name], budget) for name, budget in target.budgets.items()]
    return gates.by_score(gated, budgets) if way == "gates" else gates.by_utility(gated, budgets=budgets)


def _search(config: Config) -> evosearch.Config:
    return evosearch.Config(config.algorithm, config.population, config.generations, chunk=5)
