"""Recovery on and off over paired seeds: does letting removed connections return help, and how many do?

LeNet-300-100 on MNIST at one budget, the same dense nets, seeds and steps; the ranking's own allocation, so that search
noise plays no part. Validation errors only.

Command: python benchmarks/recovery.py --out=docs/results/recovery.json
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from jax_prune import datasets, evosearch, learning, nets
from jax_prune.compress import Plan, compress
from jax_prune.report import versions

SEEDS = flags.DEFINE_integer("seeds", 5, "paired seeds")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

KINDS = ("topk", "hysteresis", "none")
PLAN = Plan(
    compression=40.0,
    rounds=5,
    round_steps=2000,
    final_steps=6000,
    allocation="score",
    search=evosearch.Config(population=4, generations=0),
)


def main(_: list[str]) -> None:
    splits = datasets.load("mnist")
    train = jax.device_put(splits.train)
    errors: dict[str, list[float]] = {kind: [] for kind in KINDS}
    shares: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for seed in range(SEEDS.value):
        key = jax.random.key(seed)
        recipe = learning.Recipe(learning_rate=2e-3)
        dense = learning.train(
            key, nets.build("lenet300", seed), train, recipe, loss=learning.cross_entropy, steps=6500, title="dense"
        ).net
        for kind in KINDS:
            plan = PLAN.__class__(**{**vars(PLAN), "recovery": kind})
            rounds = compress(key, dense, train, splits.validation, plan).rounds
            errors[kind].append(1 - rounds[-1].tuned.facts["validation"])
            shares[kind].append([sum(r.tuned.facts["returned"]) / int(r.kept.sum()) for r in rounds])
    result = summary(errors, shares)
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def summary(errors: dict[str, list[float]], shares: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Means and spread of validation error, and the mean share of returned connections by round."""
    return {
        "command": "python benchmarks/recovery.py",
        "seeds": SEEDS.value,
        "compression": PLAN.compression,
        "validation_error": {
            kind: {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
            for kind, values in errors.items()
        },
        "returned_share_by_round": {
            kind: [statistics.mean(column) for column in zip(*rows, strict=True)] for kind, rows in shares.items()
        },
        "versions": versions(),
    }


if __name__ == "__main__":
    app.run(main)
