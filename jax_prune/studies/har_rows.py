"""What the report of ``har`` says of recognition: every network's scores, the classes, the rungs, other protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jax_prune.pruning import costs
from jax_prune.report.recognition import ClassScores, Protocol, Recognition, Recognizer, Rung, Scored
from jax_prune.studies import har_baseline, har_measuring
from jax_prune.studies.har_ladders import Pruned

if TYPE_CHECKING:
    from jax_prune.studies import har_protocols
    from jax_prune.studies.har_run import Architecture, Run

SOURCE = "CNN-BiGRU on UTwente's data, Mekruksavanich and Jitpattanakul 2021, Electronics 10(14):1685"
PUBLISHED = {"complex": 0.9889, "simple": 0.9944, "simple and complex": 0.9878}
NAMES = {"random_windows": "random windows", "leave_one_out": "leave one subject out"}
CHOSEN = (
    "leave one subject out: the network and its settings were chosen with subject(s) {} before each was tested, so "
    "that new wearers may fare worse"
)


def recognition(run: Run, sizes: dict[str, int], shown: dict[str, Pruned]) -> Recognition:
    """All of it; ``sizes`` in bytes on disk by rung, ``shown`` the rung of each way that comes first."""
    config, fold = run.config, run.fold
    part, subjects = ("test", config.test_subjects) if config.test else ("validation", config.validation_subjects)
    long = config.dense_steps + config.rungs * config.tune_steps
    found = [_scores(run, part, f"trained:{run.best}", place) for place in range(config.seeds)]
    return Recognition(
        networks=tuple(_recognizer(run, "trained", own, config.dense_steps) for own in run.trained.values()),
        classes=_classes(run, part, found),
        confusion=tuple(tuple(map(int, row)) for row in np.sum([own.confusion for own in found], axis=0)),
        confused=run.best,
        windows={name: len(getattr(fold, name).y) for name in ("train", "validation", "test")},
        measured_on=f"{part} subjects {', '.join(map(str, subjects))}",
        baseline=_baseline(run),
        reference=tuple(_recognizer(run, "reference", own, long) for own in run.reference.values()),
        ladders=tuple(_rung(run, rung, sizes[rung.key]) for rungs in run.ladders.values() for rung in rungs),
        shown={way: rung.removed for way, rung in shown.items()},
        tolerance=config.tolerance if shown else None,
        protocols=tuple(_protocol(run, name, own) for name, own in run.beside.items()),
    )


def counted(run: Run, rung: Pruned) -> tuple[costs.Parameters, int]:
    """Parameters of the first seed's net, those of the dense network in all, and products of a window."""
    net, example = rung.nets[0], run.fold.train.x[:1]
    if rung.masks:
        return costs.parameters(net.params, rung.masks[0]), costs.kept_macs(net, rung.masks[0], example)
    whole, small = costs.parameters(run.trained[rung.net].nets[0].params), costs.parameters(net.params)
    parts = costs.Parameters(whole.weights_total, small.weights_total, whole.all_total, small.all_total)
    return parts, sum(costs.macs(net, example).values())


def _classes(run: Run, part: str, found: Sequence[har_measuring.Scores]) -> tuple[ClassScores, ...]:
    windows = run.fold.test if part == "test" else run.fold.validation
    counts = np.bincount(windows.y, minlength=len(windows.activities))

    def mean(name: str, k: int) -> float | None:
        return float(np.mean([getattr(own, name)[k] for own in found])) if counts[k] else None

    return tuple(
        ClassScores(name, mean("precision", k), mean("recall", k), mean("f1", k), int(counts[k]))
        for k, name in enumerate(windows.activities)
    )


def _scores(run: Run, part: str, name: str, place: int) -> har_measuring.Scores:
    windows = run.fold.test if part == "test" else run.fold.validation
    return har_measuring.scores(windows.y, run.answers.arrays[part][name][place], len(windows.activities))


def _scored(run: Run, name: str, validation: Sequence[float]) -> Scored:
    if not run.config.test:
        return Scored(validation=tuple(validation))
    found = [_scores(run, "test", name, place) for place in range(len(validation))]
    return Scored(tuple(own.accuracy for own in found), tuple(own.macro_f1 for own in found), tuple(validation))


def _recognizer(run: Run, role: str, own: Architecture, steps: int) -> Recognizer:
    net, example = own.nets[0], run.fold.train.x[:1]
    scored = _scored(run, f"{role}:{own.name}", own.validation)
    params, macs = costs.parameters(net.params).all_total, sum(costs.macs(net, example).values())
    return Recognizer(own.name, scored, params, macs, steps, run.seconds[f"trained:{own.name}"])


def _baseline(run: Run) -> Recognizer:
    windows = run.fold.validation
    params, products = har_baseline.sizes(windows.x.shape[2], len(windows.activities))
    (answers,) = run.answers.arrays["validation"][har_baseline.NAME]
    scored = _scored(run, har_baseline.NAME, [float(np.mean(answers == windows.y))])
    return Recognizer(har_baseline.NAME, scored, params, products, 0)


def _rung(run: Run, rung: Pruned, size: int) -> Rung:
    config = run.config
    parts, macs = counted(run, rung)
    place = (config.weights if rung.way == "weights" else config.hidden).index(rung.removed) + 1
    return Rung(
        rung.net, rung.way, rung.removed, _scored(run, rung.key, rung.validation), parts.all_kept, macs,
        config.dense_steps + place * config.tune_steps, size, run.seconds.get(rung.key, {}),
    )  # fmt: skip


def _protocol(run: Run, name: str, own: har_protocols.Protocol) -> Protocol:
    classes = len(run.fold.train.activities)
    found = [
        har_measuring.scores(training.arrays["labels"], training.arrays["answers"], classes)
        for training in own.trainings
    ]
    accuracy, macro_f1 = tuple(each.accuracy for each in found), tuple(each.macro_f1 for each in found)
    if name == "random_windows":
        warning = own.trainings[0].facts["warning"]
        return Protocol(NAMES[name], own.net, accuracy, macro_f1, warning, PUBLISHED, SOURCE)
    chosen = CHOSEN.format(", ".join(map(str, run.config.validation_subjects)))
    return Protocol(NAMES[name], own.net, accuracy, macro_f1, chosen)
