"""Other protocols of ``har``: random windows, as papers have them, and every subject in turn. A stage a training."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jax_prune import learning, progress
from jax_prune.datasets import har
from jax_prune.datasets.har import Fold, Windows
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.studies import har_measuring, har_settings
from jax_prune.studies.har import PAPER, Config

RANDOM, LEAVE_ONE_OUT = "random_windows", "leave_one_out"


class Protocol(NamedTuple):
    """How one network fared: a stage a training, with what its test windows are and were taken for."""

    net: str
    trainings: tuple[Stage, ...]


def beside(config: Config, windows: Windows, best: str, stages: Stages) -> dict[str, Protocol]:
    """The protocols asked for: random windows of the paper's network, every subject in turn of the best one."""
    return {
        protocol: _run(
            config, protocol, PAPER if protocol == RANDOM and PAPER in config.nets else best, windows, stages
        )
        for protocol in asked(config)
    }


def check(config: Config, windows: Windows) -> None:
    """Raises BadInput for a fold in which nobody shows an activity while training: now, not after hours of it."""
    for protocol in asked(config):
        for _ in _folds(config, protocol, windows):
            pass


def asked(config: Config) -> tuple[str, ...]:
    """Which protocols; none where the test subjects are not to be touched, who would train in all of them."""
    wanted = {RANDOM: config.random_windows, LEAVE_ONE_OUT: config.leave_one_out}
    return tuple(protocol for protocol, given in wanted.items() if given and config.test)


def _folds(config: Config, protocol: str, windows: Windows) -> Iterator[tuple[str, int, Fold]]:
    """Name, seed and windows of every training."""
    if protocol == RANDOM:
        for seed in har_settings.seeds_of(config):
            yield f"seed_{seed}", seed, next(har.random_windows(seed, windows))
    else:
        for fold in har.leave_one_subject_out(windows):
            yield f"subject_{fold.test.subjects[0]}", config.seed, fold


def _run(config: Config, protocol: str, name: str, windows: Windows, stages: Stages) -> Protocol:
    found, inner = [], stages.within(protocol)
    count = config.seeds if protocol == RANDOM else len(np.unique(windows.subjects))
    with progress.bar(f"{name}, {protocol.replace('_', ' ')}", count) as advance:
        for place, seed, fold in _folds(config, protocol, windows):
            found.append(inner(place, partial(_trained, config, f"{protocol}/{place}", name, seed, fold)))
            advance(1)
    return Protocol(name, tuple(found))


def _trained(config: Config, place: str, name: str, seed: int, fold: Fold) -> Stage:
    net = learning.train(
        stage_key(jax.random.key(seed), place), har_settings.built(config, name, fold.train, seed),
        jax.device_put(fold.splits.train), har_settings.recipe_of(config, fold.scaling), loss=learning.cross_entropy,
        steps=config.dense_steps, title=place,
    ).net  # fmt: skip
    answers = har_measuring.answered(net, fold.test.batch)
    return Stage({"labels": np.asarray(fold.test.y), "answers": answers}, {"warning": fold.warning or ""})
