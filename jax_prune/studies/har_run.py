"""How ``har`` runs: windows in, every network from every seed, the ladders of the best, the test subjects once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_prune import learning, progress
from jax_prune.datasets.har import Fold, Windows
from jax_prune.fitting import check_fit
from jax_prune.report import Report
from jax_prune.stages import Stage, Stages, locked, refuse_other, stage_key
from jax_prune.studies import har_baseline, har_ladders, har_measuring, har_protocols, har_report, har_settings
from jax_prune.studies.har import Config
from jax_prune.studies.har_ladders import Pruned, with_arrays
from jax_prune.studies.har_protocols import Protocol
from jax_prune.types import Net


class Architecture(NamedTuple):
    """One of the networks, trained: a net and its accuracy on the validation subjects from every seed."""

    name: str
    nets: tuple[Net, ...]
    validation: tuple[float, ...]


class Run(NamedTuple):
    """What a finished run knows, for its report. By name, the best first: ``trained``, and of those that were pruned
    ``reference``, trained as long, and ``ladders``.
    """

    config: Config
    fold: Fold
    trained: dict[str, Architecture]
    reference: dict[str, Architecture]
    ladders: dict[str, tuple[Pruned, ...]]
    answers: Stage
    seconds: dict[str, Any]
    beside: dict[str, Protocol]
    stages: Stages

    @property
    def best(self) -> str:
        return next(iter(self.trained))


def run(config: Config, workdir: str) -> Report:
    """The whole study; see ``har.run``."""
    har_settings.check(config)
    settings = har_settings.settings_of(config)
    refuse_other(workdir, settings)
    windows, fold = examined(config)
    with locked(workdir):
        stages = Stages(workdir, settings)  # claims the folder: nothing refused so far left anything in it
        trained = best_first(_every(config, fold, stages))
        names = list(trained)[: config.prune]
        long = config.dense_steps + config.rungs * config.tune_steps
        reference = {name: architecture(config, name, fold, long, stages, "reference") for name in names}
        ladders = {name: har_ladders.descend(config, name, trained[name].nets, fold, stages) for name in names}
        asked = dict(_asked(trained, reference, ladders))
        baseline = har_baseline.fitted(fold.train)
        answers = stages("answers", partial(har_measuring.answers, asked, baseline, fold, config.test))
        seconds = stages("latency", partial(har_measuring.timing, asked, fold)).facts
        beside = har_protocols.beside(config, windows, next(iter(trained)), stages)
        finished = Run(config, fold, trained, reference, ladders, answers, seconds, beside, stages)
        return har_report.write(finished, Path(workdir))


def examined(config: Config) -> tuple[Windows, Fold]:
    """All windows, and by use. Raises BadInput for whatever of the config cannot be done; trains nothing."""
    task = har_settings.task_of(config)
    windows = task.windows(config.data_dir)
    fold = task.split(windows)
    augment = har_settings.recipe_of(config, fold.scaling).augment
    for name in config.nets:
        net = har_settings.built(config, name, fold.train, config.seed)
        check_fit(net, fold.splits.train, learning.cross_entropy, learning.correct, config.dataset, augment)
        if config.prune:
            har_ladders.check(config, net, fold)
    har_protocols.check(config, windows)
    return windows, fold


def architecture(config: Config, name: str, fold: Fold, steps: int, stages: Stages, role: str) -> Architecture:
    """The network ``name`` trained from every seed, as the stage ``role/name``."""
    seeds = har_settings.seeds_of(config)
    untrained = [har_settings.built(config, name, fold.train, seed) for seed in seeds]

    def compute() -> Stage:
        found = learning.train_seeds(
            [stage_key(jax.random.key(seed), f"{role}/{name}") for seed in seeds], untrained,
            jax.device_put(fold.splits.train), har_settings.recipe_of(config, fold.scaling),
            loss=learning.cross_entropy, steps=steps, title=f"{name}: train",
        )  # fmt: skip
        nets = {f"seed_{seed}": own.net for seed, own in zip(seeds, found, strict=True)}
        arrays = {place: {"params": net.params, "state": net.state} for place, net in nets.items()}
        accuracies = [har_measuring.accuracy(net, fold.splits.validation) for net in nets.values()]
        return Stage(arrays, {"validation": accuracies, "losses": [list(map(float, own.losses)) for own in found]})

    stage = stages(f"{role}/{name}", compute)
    trained = [with_arrays(net, stage.arrays[f"seed_{seed}"]) for seed, net in zip(seeds, untrained, strict=True)]
    return Architecture(name, tuple(trained), tuple(stage.facts["validation"]))


def best_first(found: Iterable[Architecture]) -> dict[str, Architecture]:
    """By name, in the order of mean accuracy on the validation subjects."""
    return {own.name: own for own in sorted(found, key=lambda own: -float(np.mean(own.validation)))}


def _every(config: Config, fold: Fold, stages: Stages) -> Iterator[Architecture]:
    """Every network, trained."""
    with progress.bar("networks", len(config.nets)) as advance:
        for name in config.nets:
            found = architecture(config, name, fold, config.dense_steps, stages, "trained")
            advance(1, f"{name} {100 * np.mean(found.validation):.2f} % on validation subjects")
            yield found


def _asked(
    trained: dict[str, Architecture], reference: dict[str, Architecture], ladders: dict[str, tuple[Pruned, ...]]
) -> Iterator[tuple[str, tuple[Net, ...]]]:
    """Every network that is measured, under the name that the report finds it by."""
    for role, found in (("trained", trained), ("reference", reference)):
        for name, own in found.items():
            yield f"{role}:{name}", own.nets
    for rungs in ladders.values():
        for rung in rungs:
            yield rung.key, rung.nets
