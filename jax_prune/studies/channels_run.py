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

from jax_prune import compress, counts_search, datasets, evosearch, learning, narrowing, nets, targets
from jax_prune.counts_search import Samples
from jax_prune.errors import BadInput
from jax_prune.fitting import check_fit
from jax_prune.learning import gates
from jax_prune.narrowing import Chosen
from jax_prune.nets.gating import Gated, gate
from jax_prune.pruning.latency import Latency
from jax_prune.report import Report
from jax_prune.rounds import judged_as_candidates
from jax_prune.stages import Stage, Stages, locked, refuse_other, stage_key
from jax_prune.studies import channels_latency, channels_report, measuring, options
from jax_prune.studies.channels import DURING, RANKED, Config
from jax_prune.studies.channels_settings import check, memory_of, recipe_of, search_of, shares_of
from jax_prune.targets import Target
from jax_prune.types import Array, Net


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
    model: Latency | None  # where the latency is limited
    stages: Stages
    example: Any


def run(config: Config, workdir: str) -> Report:
    """The whole study; see ``channels.run``."""
    settings = {"study": "channels"} | dataclasses.asdict(config)
    refuse_other(workdir, settings)
    splits, net, target, gated = examined(config)
    key, example = jax.random.key(config.seed), splits.train.x[:1]
    with locked(workdir):
        stages = Stages(workdir, settings)  # claims the folder: nothing refused so far left anything in it
        model = None
        if config.latency is not None:
            model = channels_latency.modelled(net, target, splits.train.x, config.latency_batch, stages)
            target = _timed(target, model, gated, workdir)
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
        more = () if model is None else (config.latency_batch,)
        seconds = stages("latency", partial(channels_latency.timing, timed, splits.validation.x, more)).facts
        finished = Run(config, target, reference, ways, gated, errors, seconds, model, stages, example)
        return channels_report.write(finished, Path(workdir))


def _timed(target: Target, model: Latency, gated: Gated | None, workdir: str) -> Target:
    """The target with the limit of the latency, which is known once the folder is claimed. Raises BadInput."""
    try:
        timed = targets.timed(target, model)
        _check_limits(timed, gated)
    except BadInput as error:
        raise BadInput(f"{error}. {workdir} keeps these settings: with others give another --workdir") from error
    return timed


def examined(config: Config) -> tuple[datasets.Splits, Net, Target, Gated | None]:
    """The data, the untrained net, the target, and the net with gates where a way needs them.

    Raises BadInput for whatever of the config cannot be done.
    """
    check(config)
    splits = datasets.load(config.dataset, data_dir=config.data_dir)
    net = nets.build(**options.made_of(config))
    check_fit(net, splits.train, learning.cross_entropy, learning.correct, config.dataset, recipe_of(config).augment)
    target = targets.target(net, splits.train.x[:1], shares_of(config), config.frozen, config.round_to)
    gates_of = bool(set(config.ways) & set(DURING))
    gated = gate(net, target.groups, splits.train.x[: config.batch_size]) if gates_of else None
    _check_ways(config, net, target, gated, splits)
    return splits, net, target, gated


def _check_ways(config: Config, net: Net, target: Target, gated: Gated | None, splits: datasets.Splits) -> None:
    """Every way's choice, on the untrained net and few examples: what a network lacks is said before it is trained."""
    few = jax.tree.map(lambda leaf: leaf[:8], splits.train)
    _check_limits(target, gated)
    if gated is not None:
        gates.check_silence(net, gated, few.x)
    by_score = bool(set(config.ways) & set(RANKED))
    if by_score:

        def scored(net: Net) -> tuple[Array, ...]:
            key = jax.random.key(0)
            return narrowing.scored(key, net, target.groups, few, learning.cross_entropy, config.score)

        # gradients would be compiled for nothing: their shapes tell as much
        _ = jax.eval_shape(scored, net) if config.score == "taylor" else scored(net)
    if "search" in config.ways:
        unranked = [jnp.zeros(group.size) for group in target.groups]
        masked = narrowing.masked_loss(net, target, _samples(config, splits).searched, unranked, learning.cross_entropy)
        evosearch.memory.planned(masked, memory_of(config))  # says whether the data fits
    static = [way for way in config.ways if way in narrowing.STATIC] or ["uniform"] * by_score
    flags = [narrowing.chosen_by(way, net, target).flags for way in static if target.limits]
    halves = tuple(np.arange(group.size) % 2 == 0 for group in target.groups)
    narrowing.cut(net, target, flags[0] if flags else halves, few.x[:1])


def _check_limits(target: Target, gated: Gated | None) -> None:
    """Raises BadInput where what can be gated does not meet the limits that are known."""
    if gated is not None and target.limits:
        _gating("gates", gated, target)


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

    def choose() -> Stage:
        if way in narrowing.STATIC:
            return narrowing.stage_of(narrowing.chosen_by(way, dense, target))
        if way == "uniform_score":
            return narrowing.stage_of(narrowing.chosen_uniformly(ranking(), target))
        return narrowing.stage_of(
            counts_search.chosen_by_search(
                stage_key(key, "search"), dense, target, config.floor, _samples(config, splits), ranking(),
                search_of(config), learning.cross_entropy, stages, memory_of(config),
            )
        )  # fmt: skip

    chosen = narrowing.read(stages("search" if way == "search" else "chosen", choose))
    small = narrowing.cut(dense, target, chosen.flags, splits.train.x[:1])

    def tune() -> Stage:
        judged = judged_as_candidates(small, _samples(config, splits).searched)
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


def _samples(config: Config, splits: datasets.Splits) -> Samples:
    """The training examples on which candidates are compared, half of all at most, and as many others."""
    key = stage_key(jax.random.key(config.seed), "calibration")
    count = min(config.calibration, len(splits.train.x) // 2)
    drawn = partial(compress.calibration_sample, key, splits.train, count)
    return Samples(drawn(), drawn(after=count))
