"""Runs one preset of a study over several seeds and writes what docs/results/ holds.

    python benchmarks/seeds.py --net=lenet300 --preset=record --out=docs/results/lenet300_record --models
    python benchmarks/seeds.py --study=channels --preset=compare --seeds=0,1,2 --out=docs/results/channels_lenet5

Each seed's report.json goes to OUT/seed_K.json (with --models its packed net beside it), and OUT/summary.json holds
means and spread. Seeds are paired: dense reference and pruned net of a seed share initial weights and data order.
Runs resume: an interrupted call goes on where it stood.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import app, flags

from jax_prune.report.correlation import rank_correlation

STUDY = flags.DEFINE_string("study", "layerwise", "the study")
NET = flags.DEFINE_string("net", None, "net of the study; default: the preset's")
PRESET = flags.DEFINE_string("preset", "default", "preset of the study")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "seeds to run")
SET = flags.DEFINE_multi_string("set", [], "further settings of the study, as FIELD=VALUE")
OUT = flags.DEFINE_string("out", None, "folder for reports and summary", required=True)
RUNS = flags.DEFINE_string("runs", "runs", "folder for the runs' workdirs")
JOBS = flags.DEFINE_integer("jobs", 1, "seeds at a time; with more than one, each is pinned to one core")
MODELS = flags.DEFINE_bool("models", False, "keep the packed nets too")

MODEL_OF = {"layerwise": "model.jaxprune", "channels": "compact.safetensors"}


def main(_: list[str]) -> None:
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(JOBS.value) as pool:
        reports = list(pool.map(run, range(len(SEEDS.value)), SEEDS.value))
    summary = summarise(reports)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


def run(index: int, seed: str) -> dict[str, Any]:
    """One seed's report, from its workdir if finished there already."""
    workdir = Path(RUNS.value) / f"{Path(OUT.value).name}_{seed}"
    subprocess.run([*command(seed), f"--workdir={workdir}"], check=True, preexec_fn=_pinned(index))
    text = _portable((workdir / "report.json").read_text())
    (Path(OUT.value) / f"seed_{seed}.json").write_text(text)
    if MODELS.value:
        shutil.copy(
            workdir / MODEL_OF[STUDY.value], Path(OUT.value) / f"seed_{seed}{Path(MODEL_OF[STUDY.value]).suffix}"
        )
    return json.loads(text)


def _portable(text: str) -> str:
    """Without this machine's folder of data sets."""
    folders = [value for name, _, value in (setting.partition("=") for setting in SET.value) if name == "data_dir"]
    return text.replace(folders[0], "DIR") if folders else text


def command(seed: str) -> list[str]:
    settings = [f"--config.{setting}" for setting in SET.value]
    net = [f"--config.net={NET.value}"] if NET.value else []
    base = [sys.executable, "-m", "jax_prune", STUDY.value, f"--preset={PRESET.value}", *net]
    return [*base, f"--config.seed={seed}", *settings]


def summarise(reports: list[dict[str, Any]]) -> dict[str, Any]:
    def spread(values: list[float]) -> dict[str, Any]:
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        return {"mean": statistics.mean(values), "sd": sd, "values": values}

    dense = [report["dense"]["error"] for report in reports]
    pruned = [report["pruned"]["error"] for report in reports]
    summary = {
        "command": _portable(
            " ".join(["python benchmarks/seeds.py", *(word for word in sys.argv[1:] if not word.startswith("--runs"))])
        ),
        "seeds": [report["seed"] for report in reports],
        "dense_test_error": spread(dense),
        "pruned_test_error": spread(pruned),
        "pruned_minus_dense": spread([after - before for before, after in zip(dense, pruned, strict=True)]),
        "compression_weights": spread([report["compression"]["weights"] for report in reports]),
        "compression_all": spread([report["compression"]["all"] for report in reports]),
        "seconds": spread([sum(report["seconds"].values()) for report in reports]),
        "jobs_at_a_time": JOBS.value,
        "versions": reports[0]["versions"],
    }
    outcomes = [outcome for report in reports for outcome in report["baselines"]["outcomes"]]
    names = dict.fromkeys(outcome["allocator"] for outcome in outcomes)
    summary["allocations"] = {
        name: spread([outcome["error"] for outcome in outcomes if outcome["allocator"] == name]) for name in names
    }
    summary["ways"] = {way["name"]: _way(way["name"], reports, spread) for way in reports[0].get("ways", ())}
    summary["rank_correlation"] = foretold(reports)
    return summary


def _way(name: str, reports: list[dict[str, Any]], spread: Any) -> dict[str, Any]:
    """One way of ``channels`` over the seeds: errors, and what stays of the dense network."""
    pairs = [(report["dense"], own) for report in reports for own in report["ways"] if own["name"] == name]
    return {
        "test_error": spread([own["network"]["error"] for _, own in pairs]),
        "validation_error": spread([own["network"]["validation_error"] for _, own in pairs]),
        "macs": spread([own["network"]["macs"] / dense["macs"] for dense, own in pairs]),
        "parameters": spread([own["network"]["params"] / dense["params"] for dense, own in pairs]),
        "seconds": spread([own["seconds"] for _, own in pairs]),
    }


def foretold(reports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Spearman's rho of the loss before the last round's tuning and the validation error after it.

    Over all seeds and allocations, and of every seed alone; None where there are too few points.
    """
    last = [
        [entry for entry in report["baselines"]["tuned"] if entry["round"] == report["rounds"][-1]["round"]]
        for report in reports
    ]

    def rho(entries: list[dict[str, Any]]) -> float | None:
        return rank_correlation([entry["loss"] for entry in entries], [entry["error"] for entry in entries])

    points = [entry for entries in last for entry in entries]
    every = rho(points)
    return None if every is None else {"rho": every, "points": len(points), "of_each_seed": [rho(own) for own in last]}


def _pinned(index: int) -> Any:
    if JOBS.value == 1:
        return None
    return lambda: os.sched_setaffinity(0, {index % (os.cpu_count() or 1)})


if __name__ == "__main__":
    app.run(main)
