"""What a finished ``layerwise`` run writes: the packed net, search_history.csv and the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jax_prune import datasets, storage
from jax_prune import report as reporting
from jax_prune.compress import Compressed, Round
from jax_prune.deploy import packed
from jax_prune.evosearch import history
from jax_prune.plan import SEARCHED
from jax_prune.pruning import costs, lattice
from jax_prune.report import wording
from jax_prune.stages import Stage, Stages
from jax_prune.studies import layerwise_front, options
from jax_prune.studies.layerwise import Config
from jax_prune.studies.layerwise_presets import presets_of
from jax_prune.types import Net

MODEL = "model.jaxprune"
HISTORY = "search_history.csv"
MACS_NOTE = "kept weights' products an example; dense hardware still does them all"
WAYS = wording.NAMES | {
    "de": "differential evolution",
    "uniform": "one ratio for all",
    "greedy": "greedy steps down the sweeps",
}
TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}


def write(
    config: Config,
    folder: Path,
    dense: Net,
    compressed: Compressed,
    rivals: dict[str, Compressed],
    errors: dict[str, Any],
    stages: Stages,
    splits: datasets.Splits,
    front: Stage | None = None,
) -> reporting.Report:
    """Writes model.jaxprune, search_history.csv, report.json, report.md and report.html into ``folder``."""
    example = jnp.asarray(splits.validation.x[:1])
    size = packed.write_packed(
        folder / MODEL, _spec(config), compressed.net.params, compressed.net.state,
        compressed.masks, {"seed": config.seed, "error": errors["pruned"]["test"]},
    )  # fmt: skip
    write_history(folder / HISTORY, {config.allocation: compressed, **rivals})
    report = build(config, dense, compressed, errors, stages, example, size, front, rivals)
    reporting.write(report, folder)
    return report


def build(
    config: Config,
    dense: Net,
    compressed: Compressed,
    errors: dict[str, Any],
    stages: Stages,
    example: Any,
    packed_bytes: int,
    front: Stage | None = None,
    rivals: dict[str, Compressed] | None = None,
) -> reporting.Report:
    """The report of a finished run, from its stages and errors (``studies.measuring.measure``)."""
    counted = costs.parameters(compressed.net.params, compressed.masks)
    all_steps = config.all_dense_steps + sum(entry.tuned.facts["steps"] for entry in compressed.rounds)
    everything = reporting.Side(
        params=counted.all_total,
        weights=counted.weights_total,
        macs=sum(costs.macs(dense, example).values()),
        macs_note="every weight's products an example",
        bytes=4 * counted.all_total,
        bytes_note="float32 in memory",
    )
    kept_macs = costs.kept_macs(dense, compressed.masks, example)
    pruned = reporting.Side(
        error=errors["pruned"]["test"],
        validation_error=errors["pruned"]["validation"],
        params=counted.all_kept,
        weights=counted.weights_kept,
        macs=kept_macs,
        macs_note=MACS_NOTE,
        bytes=packed_bytes,
        bytes_note=f"{MODEL} on disk",
        steps=all_steps,
    )
    tuned = _tuned(config, compressed, rivals or {})
    rounds = tuple(_round(entry, _limit(config) is not None) for entry in compressed.rounds)
    return reporting.Report(
        study="layerwise",
        title=_title(config),
        dataset=config.dataset,
        seed=config.seed,
        dense=_side(everything, errors["reference"], None if config.trained else all_steps),
        start=None if config.trained else _side(everything, errors["dense"], config.dense_steps),
        pruned=pruned,
        compression=reporting.Compression(
            weights=counted.weights_total / max(counted.weights_kept, 1), all=counted.all_total / counted.all_kept
        ),
        layers=tuple(
            reporting.Layer(group.name, group.size, int(kept), float(ratio))
            for group, kept, ratio in zip(compressed.groups, compressed.kept, compressed.ratios, strict=True)
        ),
        budget=_budget(config, compressed, kept_macs),
        rounds=rounds,
        history=_training(config, compressed),
        search=_search(config, compressed),
        trade_off=layerwise_front.section(front),
        baselines=reporting.Baselines.of(rounds, _outcomes(config, errors), tuned, reporting.correlations(tuned)),
        command=_command(config),
        config=dataclasses.asdict(config),
        seconds={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
        versions=reporting.versions(),
        files={"packed net": MODEL, "every candidate": HISTORY},
        notes=_notes(config, rounds),
    )


def write_history(path: Path, runs: dict[str, Compressed]) -> None:
    """search_history.csv: a row for every vector that a search evaluated, in order; ``runs`` by their allocation.

    Genomes are log kept shares under a budget and ratios under a tolerance; ``kept/LAYER`` is what they stood for.
    """
    table: list[list[Any]] = []
    for allocation, compressed in runs.items():
        counted = [group.name for group in compressed.groups]
        names = lattice.of(compressed.groups).names
        for entry in compressed.rounds:
            for search in [name for name in SEARCHED if name in entry.search.arrays]:
                leading = {"allocation": allocation, "round": entry.number, "search": search}
                found = history.rows(entry.search.arrays[search], names, counted, **leading)
                table += found if not table else found[1:]
    storage.write_text(path, history.text(table))


def _side(everything: reporting.Side, errors: dict[str, float | None], steps: int | None) -> reporting.Side:
    return dataclasses.replace(everything, error=errors["test"], validation_error=errors["validation"], steps=steps)


def _round(entry: Round, limited: bool) -> reporting.Round:
    facts, losses = entry.tuned.facts, dict(entry.search.facts["losses"])
    return reporting.Round(
        round=entry.number,
        target=None if limited else entry.budget,
        limit=entry.budget if limited else None,
        spent=entry.spent if limited else None,
        kept=int(entry.kept.sum()),
        validation_error_before_tuning=1 - facts["validation_before"],
        validation_error=1 - facts["validation"],
        search_loss=losses.pop("de"),
        baselines=losses,
        collapsed=tuple(entry.search.facts.get("collapsed", ())),
        missed=entry.search.facts.get("missed", {}).get("de"),
        returned=tuple(facts["returned"]),
        layers_kept=tuple(int(count) for count in entry.kept),
    )


def _limit(config: Config) -> tuple[str, int] | None:
    """The unit and the limit of a run that has one."""
    limits = {"MACs": config.max_macs, "bytes": config.max_bytes}
    return next(((unit, limit) for unit, limit in limits.items() if limit is not None), None)


def _budget(config: Config, compressed: Compressed, kept_macs: int) -> reporting.Budget | None:
    """What the last round might spend, what its counts may come to by the model, and what its masks do come to."""
    limit = _limit(config)
    if limit is None:
        return None
    packed_bytes = costs.packed_total(compressed.net.params, compressed.masks)
    return reporting.Budget(*limit, compressed.rounds[-1].spent, kept_macs if limit[0] == "MACs" else packed_bytes)


def _search(config: Config, compressed: Compressed) -> reporting.Search:
    last = compressed.rounds[-1].sensitivity
    return reporting.Search(
        algorithm=config.algorithm,
        evaluations=int(compressed.rounds[-1].search.arrays["de"]["evaluated"].sum()),
        population=config.population,
        generations=len(compressed.rounds[-1].search.arrays["de"]["value"]) - len(config.fidelity),
        objective="loss" if config.tolerance is None else "kept fraction",
        history=tuple(history.best_so_far(entry.search.arrays["de"]) for entry in compressed.rounds),
        random_history=tuple(history.best_so_far(entry.search.arrays["random"]) for entry in compressed.rounds),
        work=tuple(entry.search.facts.get("work", {}).get("de") for entry in compressed.rounds),
        precision=config.precision,
        race=config.race,
        fidelity=config.fidelity,
        audit=_audit(compressed),
        changed=tuple(
            entry.search.facts["rescored"]["de"]["changed"]
            for entry in compressed.rounds
            if "de" in entry.search.facts.get("rescored", {})
        ),
        sensitivity=reporting.Sensitivity(
            ratios=tuple(map(float, last.arrays["ratios"])),
            loss=tuple(tuple(map(float, row)) for row in last.arrays["loss"]),
            bounds=reporting.Limits(tuple(map(float, last.arrays["lower"])), tuple(map(float, last.arrays["upper"]))),
            limit=last.facts["limit"],
        ),
    )


def _audit(compressed: Compressed) -> reporting.Audit | None:
    """The audits of all rounds' searches, summed; None where none was asked for."""
    audits = [entry.search.facts["audits"]["de"] for entry in compressed.rounds if entry.search.facts.get("audits")]
    if not audits:
        return None
    counts = {name: sum(audit[name] for audit in audits) for name in ("dropped", "accepted", "differed")}
    return reporting.Audit(**counts, confidence=audits[0]["confidence"])


def _training(config: Config, compressed: Compressed) -> tuple[reporting.Point, ...]:
    """Validation after each round's tuning, over all steps so far."""
    points, step = [], config.all_dense_steps
    for entry in compressed.rounds:
        step += entry.tuned.facts["steps"]
        error = 1 - entry.tuned.facts["validation"]
        loss = entry.tuned.facts["losses"][-1]
        points.append(reporting.Point("tune", step, error, round=entry.number, loss=loss))
    return tuple(points)


def _outcomes(config: Config, errors: dict[str, Any]) -> tuple[reporting.Outcome, ...]:
    names = {name.partition(":")[2]: name for name in errors if name.startswith("allocation:")}
    if not names:
        return ()
    names = {"search" if config.allocation == "de" else config.allocation: "pruned", **names}
    dense = errors["reference"]["test"]
    return tuple(reporting.Outcome(who, config.seed, errors[name]["test"], dense) for who, name in names.items())


def _tuned(config: Config, compressed: Compressed, rivals: dict[str, Compressed]) -> tuple[reporting.Tuned, ...]:
    """Every allocation's loss before each round's tuning and error after it; none where budgets are each one's own."""
    if config.tolerance is not None or not rivals:
        return ()
    runs = {config.allocation: compressed, **rivals}
    return tuple(
        reporting.Tuned(
            "search" if name == "de" else name, config.seed, entry.number,
            entry.search.facts["losses"].get(name), 1 - entry.tuned.facts["validation"],
        )
        for name, run in runs.items()
        for entry in run.rounds
    )  # fmt: skip


def _spec(config: Config) -> dict[str, Any]:
    """What a packed net says it is of: see ``evaluate``."""
    width = {} if config.width == 1 else {"width": config.width}
    return {"net": config.net, "dataset": config.dataset} | width


def _title(config: Config) -> str:
    net = TITLES.get(config.net, config.net) + ("" if config.width == 1 else f" at width {config.width:g}")
    return f"{net} on {config.dataset}: layer-wise pruning by {WAYS[config.allocation]}"


def _command(config: Config) -> str:
    """The command that makes this run, from the nearest preset of its net."""
    presets = {name: Config.preset(config.net, name) for name in presets_of(config.net)}
    return options.command("layerwise", config, presets, [f"--config.net={config.net}"])


def _notes(config: Config, rounds: tuple[reporting.Round, ...]) -> tuple[str, ...]:
    notes = ["Method after Wu et al. 2021 (Sensors 21(3):880); DE and schedule settings are ours."]
    notes += options.narrowed(config)
    lost = [str(entry.round) for entry in rounds if config.allocation in entry.collapsed]
    if lost:
        notes.append(f"Collapsed before tuning in round {', '.join(lost)}: no path was left from input to output.")
    if config.members > 1:
        notes.append(
            f"Tuning learns from the mean output of {config.members} dense nets, trained alike from their own seeds; "
            "their steps count among the pruned net's, and so among the reference's."
        )
    if config.shift:
        notes.append(f"All training, dense and pruned, shifts images by up to {config.shift} pixel(s).")
    elif config.taught_shift and config.distillation:
        averaged = ", averaged over neighbouring shifts," if config.neighbour_weight else ""
        notes.append(
            f"Tuning matches the teacher's answers{averaged} on images of which {config.taught_share:.0%} "
            f"get a random shift of up to {config.taught_shift} pixel(s), possibly none; it sees no labels, and dense "
            "training no shifted images."
        )
    return tuple(notes)
