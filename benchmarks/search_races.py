"""What early decisions and shares of the data save and cost: LeNet-300-100, LeNet-5, a 12-layer VGG-like net.

The default search by exact races, paired ones, successive fidelity and both, paired by seed: loss of what it found on
all data, share of the work (single candidates, see ``history.share_of_work``), and for paired races the trials that
were dropped though they would have won, counted by evaluating all dropped trials whole (``evosearch.audit``). The nets
are those of search_nets.py; there are more examples, in more and smaller chunks, for early decisions to pay.

Command: python benchmarks/search_races.py --data_dir=DIR --out=docs/results/search_races.json   (--smoke: a minute)
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import search_nets
from absl import app, flags

from jax_prune import evosearch
from jax_prune.evosearch import BudgetLoss, Config
from jax_prune.report import versions

CHUNKS = flags.DEFINE_integer("chunks", 20, "parts of the examples, after each of which a race may end")
CONFIDENCE = flags.DEFINE_list("confidence", ["0.99", "0.9"], "of paired races")
FIDELITY = flags.DEFINE_list("fidelity", ["0.25", "1"], "shares of the data")
SMOKE = flags.DEFINE_boolean("smoke", False, "LeNet-300-100 alone, few examples, candidates and seeds")

EXAMPLES = {"lenet300": 4000, "lenet5": 1000, "vgg12": 500}
SETTINGS = ("seeds", "population", "generations", "chunks", "confidence", "fidelity")


def main(_: list[str]) -> None:
    if SMOKE.value:
        for name, value in (("nets", ["lenet300"]), ("seeds", 2), ("population", 6), ("generations", 4)):
            setattr(flags.FLAGS, name, value)
    begin = time.perf_counter()
    result: dict[str, Any] = {
        "command": f"python benchmarks/search_races.py --data_dir=DIR --seeds={search_nets.SEEDS.value}",
        "settings": {name: flags.FLAGS[name].value for name in SETTINGS},
        "nets": {},
        "versions": versions(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    for name in search_nets.NETS.value:
        examples = 600 if SMOKE.value else EXAMPLES[name]
        net, sample, accuracy = search_nets.net_and_sample(name, examples)
        result["nets"][name] = {"accuracy": accuracy, "examples": examples, "budgets": []}
        for compression in search_nets.COMPRESSIONS[name]:
            fitness = search_nets.fitness_of(net, sample, compression, -(-examples // CHUNKS.value))
            row = {"compression": compression, "ways": _ways(f"{name} {compression:g}x", fitness)}
            result["nets"][name]["budgets"].append(row)
        result["seconds"] = time.perf_counter() - begin
        if search_nets.OUT.value:
            Path(search_nets.OUT.value).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _ways(title: str, fitness: BudgetLoss) -> dict[str, Any]:
    """Every way over all seeds, and its losses' ratios to those of exact races, seed by seed."""
    shares = tuple(map(float, FIDELITY.value))
    ways: dict[str, dict[str, Any]] = {"exact": {"race": "exact"}}
    ways |= {f"paired {sure}": {"race": "paired", "confidence": float(sure)} for sure in CONFIDENCE.value}
    ways["fidelity"] = {"race": "exact", "fidelity": shares}
    ways["fidelity, paired"] = ways[f"paired {CONFIDENCE.value[0]}"] | {"fidelity": shares}
    found: dict[str, Any] = {}
    for way, settings in ways.items():
        runs = [_searched(fitness, seed, settings) for seed in range(search_nets.SEEDS.value)]
        table = {name: [run[name] for run in runs] for name in runs[0]}
        found[way] = {"mean": statistics.mean(table["loss"]), "work": statistics.mean(table["share_of_work"]), **table}
        exact = found["exact"]["loss"]
        found[way]["over_exact"] = [loss / least for loss, least in zip(table["loss"], exact, strict=True)]
        print(title, way, round(found[way]["mean"], 5), f"{found[way]['work']:.0%} of the work", flush=True)
    return found


def _searched(fitness: BudgetLoss, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One search: its loss on all data, in their own order, its work, and what the audit counts."""
    key, population = jax.random.key(seed), search_nets.POPULATION.value
    config = Config(population=population, generations=search_nets.GENERATIONS.value, **settings)
    start = time.perf_counter()
    result = evosearch.search(key, config, fitness.box, fitness)
    seconds = time.perf_counter() - start
    audit = evosearch.audit(key, config, fitness, result.info)
    return {
        "loss": float(fitness.loss(fitness.kept(jnp.asarray(result.best)))),
        "share_of_work": evosearch.history.share_of_work(result.info),
        "evaluations": int(np.sum(result.info.evaluated)),
        "seconds": seconds,
        "rate": audit.rate,
        **{name: count for name, count in audit._asdict().items() if name != "confidence"},
    }


if __name__ == "__main__":
    app.run(main)
