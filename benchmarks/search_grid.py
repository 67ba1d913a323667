"""How close evosearch comes to the true optimum, and how soon: LeNet-300-100, three free layers.

A dense grid over the allocations of one budget, with two finer ones around its best, gives the optimum. DE
and random search get the same fitness, the same initial candidates and the same number of evaluations, paired
by seed; counted is how many each needs to come within 1 % of the optimum. About two minutes on 2 cores,
most of it the grids.

Command: python benchmarks/search_grid.py --out=docs/results/search_grid.json   (--net=FILE: a saved net)
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
import optax
from absl import app, flags

from jax_prune import datasets, evosearch, learning, nets, storage
from jax_prune.evosearch import Bounds, BudgetLoss, Config, grid
from jax_prune.pruning import groups, masks, scores
from jax_prune.types import Batch, Net

NET = flags.DEFINE_string("net", None, "file of storage.save_arrays with the params; default: train one")
STEPS = flags.DEFINE_integer("steps", 1500, "training steps of the net where none is given, batch 128")
COMPRESSIONS = flags.DEFINE_list("compressions", ["4", "10", "27"], "budgets: all parameters over kept ones")
EXAMPLES = flags.DEFINE_integer("examples", 1000, "training images on which candidates are compared")
POINTS = flags.DEFINE_integer("points", 32, "counts of each free layer in a grid; three grids a budget")
SEEDS = flags.DEFINE_integer("seeds", 5, "searches of each algorithm and budget")
GENERATIONS = flags.DEFINE_integer("generations", 20, "generations after the initial one")
ALGORITHMS = flags.DEFINE_list("algorithms", ["best1bin", "random"], "the first is compared with the others")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

NEAR = 1.01
UPPER = 0.9995  # each layer keeps at least one entry


def main(_: list[str]) -> None:
    begin = time.perf_counter()
    net, sample = _net_and_sample()
    rows = [_row(net, sample, float(compression)) for compression in COMPRESSIONS.value]
    result = {
        "command": "python benchmarks/search_grid.py",
        "settings": {flag.name: flag.value for flag in (STEPS, EXAMPLES, POINTS, SEEDS, GENERATIONS)},
        "rows": rows,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seconds": time.perf_counter() - begin,
    }
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def _row(net: Net, sample: Batch, compression: float) -> dict[str, Any]:
    """One budget: the grid's optimum, and how near to it every algorithm came."""
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    masked = evosearch.masked_loss(net, parts, ranks, sample, learning.cross_entropy)
    bounds = Bounds(np.zeros(len(parts)), np.full(len(parts), UPPER))
    fitness = evosearch.budget_loss(masked, round(sum(masked.sizes) / compression), bounds)
    oracle = grid.search(fitness, POINTS.value)
    curves = {
        name: [_best_so_far(fitness, bounds, name, seed) for seed in range(SEEDS.value)] for name in ALGORITHMS.value
    }
    found = {name: _summary(runs, oracle.best_loss) for name, runs in curves.items()}
    return {
        "compression": compression,
        "grid": {"evaluations": len(oracle.loss), "kept": oracle.best.tolist(), "loss": oracle.best_loss},
        "algorithms": found,
    }


def _best_so_far(fitness: BudgetLoss, bounds: Bounds, algorithm: str, seed: int) -> np.ndarray:
    """The best loss after each evaluation of one search."""
    config = Config(algorithm=algorithm, generations=GENERATIONS.value)
    box = evosearch.genome_box(fitness.masked.sizes, bounds)
    result = evosearch.search(jax.random.key(seed), config, box, fitness)
    return np.minimum.accumulate(result.info.score.value[result.info.evaluated])


def _summary(runs: list[np.ndarray], optimum: float) -> dict[str, Any]:
    """Distance to the grid's optimum (0.01 is 1 %; negative: better), and evaluations to within 1 %."""
    distances = [float(run[-1] / optimum - 1) for run in runs]
    reached = [int(np.argmax(run <= NEAR * optimum)) + 1 if run[-1] <= NEAR * optimum else None for run in runs]
    return {
        "distance": {"median": statistics.median(distances), "worst": max(distances), "all": distances},
        # a search that never came near counts as one evaluation more than it had
        "evaluations_to_1_percent": statistics.median(len(runs[0]) + 1 if r is None else r for r in reached),
        "reached": reached,
        "evaluations": len(runs[0]),
    }


def _net_and_sample() -> tuple[Net, Batch]:
    data = datasets.load("mnist").train
    net = nets.build("lenet300")
    if NET.value:
        arrays, _ = storage.load_arrays(NET.value)
        arrays = {path.removeprefix("params/"): array for path, array in arrays.items()}
        wanted = storage.flatten_paths(net.params)
        params = storage.unflatten_paths({path: jnp.asarray(arrays[path]) for path in wanted})
        net = net.replace(params=params)
    else:
        net = _trained(net, data)
    chosen = np.random.default_rng(0).choice(len(data.y), EXAMPLES.value, replace=False)
    return net, Batch(jnp.asarray(data.x[chosen]), jnp.asarray(data.y[chosen]))


def _trained(net: Net, data: Batch) -> Net:
    """A plain loop: Adam with a cosine schedule, nothing of the package's own."""
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, STEPS.value))

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        outputs, _ = net.apply(params, net.state, x, train=False, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()

    @jax.jit
    def step(params: Any, moments: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        updates, moments = optimizer.update(jax.grad(loss)(params, x, y), moments, params)
        return optax.apply_updates(params, updates), moments

    rng, params, moments = np.random.default_rng(0), net.params, optimizer.init(net.params)
    for _ in range(STEPS.value):
        rows = rng.integers(0, len(data.y), 128)
        params, moments = step(params, moments, data.x[rows], data.y[rows])
    return net.replace(params=params)


if __name__ == "__main__":
    app.run(main)
