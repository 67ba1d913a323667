"""What a finished ``har`` run writes: the pruned networks of the first seed, and the report over all seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jax_prune import report as reporting
from jax_prune.datasets import har
from jax_prune.pruning import costs
from jax_prune.report.recognition import Recognition, Recognizer, Rung
from jax_prune.studies import har_files, har_rows, options
from jax_prune.studies.har import PRESETS, Config
from jax_prune.studies.har_files import NAMES as FILES
from jax_prune.studies.har_ladders import Pruned

if TYPE_CHECKING:
    from jax_prune.studies.har_run import Run

REMOVED = {"weights": "weights", "hidden": "hidden units and filters"}
MACS_NOTE = {
    "weights": "kept weights' products a window; dense hardware still does them all",
    "hidden": "of the smaller network, as it runs",
}


def write(run: Run, folder: Path) -> reporting.Report:
    """Writes every rung of the first seed, the ones shown first under names of their own, and the report."""
    sizes = {
        rung.key: har_files.save(run, rung, har_files.place(rung, folder))
        for rungs in run.ladders.values()
        for rung in rungs
    }
    shown = {way: found for way in FILES if (found := first_shown(run, way))}
    for way, rung in shown.items():
        har_files.save(run, rung, folder / FILES[way])
    report = build(run, sizes, shown)
    reporting.write(report, folder)
    return report


def first_shown(run: Run, way: str) -> Pruned | None:
    """The best network's last rung whose validation accuracy is within the tolerance; the first where none is."""
    rungs = [rung for rung in run.ladders.get(run.best, ()) if rung.way == way]
    least = float(np.mean(run.trained[run.best].validation)) - run.config.tolerance
    within = [rung for rung in rungs if np.mean(rung.validation) >= least]
    return next(iter(within[-1:] or rungs[:1]), None)


def build(run: Run, sizes: dict[str, int], shown: dict[str, Pruned]) -> reporting.Report:
    """The report of a finished run; ``sizes`` in bytes by rung, ``shown`` the rung of each way that comes first."""
    config, rung = run.config, next(iter(shown.values()), None)
    found = har_rows.recognition(run, sizes, shown)
    start = _side(run, found.networks[0])
    dense = next((_side(run, own) for own in found.reference if own.name == run.best), start)
    pruned = dense if rung is None else _pruned(run, rung, _of(found, rung))
    assert dense.weights and dense.params and pruned.weights and pruned.params
    done = "trained" if rung is None else f"{rung.removed:.0%} of {REMOVED[rung.way]} removed"
    return reporting.Report(
        study="har",
        title=f"{run.best} on {config.dataset}, {config.scenario} activities: {done}",
        dataset=config.dataset,
        seed=config.seed,
        dense=dense,
        start=start if rung else None,
        pruned=pruned,
        compression=reporting.Compression(dense.weights / pruned.weights, dense.params / pruned.params),
        layers=() if rung is None else tuple(
            reporting.Layer(group.name, group.size, int(kept), float(1 - kept / group.size))
            for group, kept in zip(rung.groups, rung.kept[0], strict=True)
        ),
        recognition=found,
        command=options.command("har", config, {name: Config.preset(preset=name) for name in PRESETS}),
        config=dataclasses.asdict(config),
        seconds={name: round(seconds, 3) for name, seconds in run.stages.seconds.items()},
        versions=reporting.versions(),
        files={f"{way} pruned": FILES[way] for way in shown} | ({"every rung": "pruned/"} if shown else {}),
        notes=_notes(run),
    )  # fmt: skip


def _side(run: Run, own: Recognizer) -> reporting.Side:
    parts = costs.parameters(run.trained[own.name].nets[0].params)
    return reporting.Side(
        error=_error(own.scored.accuracy), validation_error=_error(own.scored.validation), params=parts.all_total,
        weights=parts.weights_total, macs=own.macs, macs_note="every weight's products a window",
        bytes=costs.FLOAT_BYTES * parts.all_total, bytes_note="float32 in memory", steps=own.steps,
        seconds=own.seconds,
    )  # fmt: skip


def _pruned(run: Run, rung: Pruned, own: Rung) -> reporting.Side:
    parts, _ = har_rows.counted(run, rung)
    return reporting.Side(
        error=_error(own.scored.accuracy), validation_error=_error(own.scored.validation), params=parts.all_kept,
        weights=parts.weights_kept, macs=own.macs, macs_note=MACS_NOTE[own.way], bytes=own.bytes,
        bytes_note=f"{FILES[own.way]} on disk", steps=own.steps, seconds=own.seconds,
    )  # fmt: skip


def _of(found: Recognition, rung: Pruned) -> Rung:
    """What the report has of a rung."""
    names = (rung.net, rung.way, rung.removed)
    return next(own for own in found.ladders if (own.net, own.way, own.removed) == names)


def _error(accuracies: Sequence[float | None]) -> float | None:
    known = [value for value in accuracies if value is not None]
    return 1 - float(np.mean(known)) if known else None


def _notes(run: Run) -> tuple[str, ...]:
    config, fold = run.config, run.fold
    notes = [
        f"Accuracies and errors are means over {config.seeds} seeds; layers, parameters and files are of the first.",
        "The eight networks are after Mekruksavanich and Jitpattanakul 2021; all settings are ours.",
    ]
    if run.ladders:
        taught = " and learns from the dense network" if config.distillation else ""
        notes.append(
            f"Every rung begins where the one above ended{taught}. 'Dense, trained longer' had as many steps as the "
            "lowest rung, and no teacher."
        )
    for part in ("validation", "test"):
        windows = getattr(fold, part)
        absent = [name for k, name in enumerate(windows.activities) if k not in windows.y]
        if absent:
            notes.append(f"No {part} window shows {', '.join(absent)}: means over classes leave them out.")
    wrong = sum(int((found < 0).sum()) for part in run.answers.arrays.values() for found in part.values())
    if wrong:
        notes.append(f"{wrong} answers were not finite: counted as wrong, and in no column of the confusion matrix.")
    if caution := har.caution(config.dataset):
        notes.append(f"{config.dataset}: {caution}")
    return tuple(notes)
