"""Which search finds the lowest loss at a budget: LeNet-300-100, LeNet-5, a 12-layer VGG-like net, equal evaluations.

Every algorithm gets the same fitness, the same initial candidates and the same number of evaluations, paired by
seed; allocations that need no search (LAMP, ERK, global magnitude, uniform, and greedy by one-layer sensitivity
curves) are beside them, and searches that begin with these. Loss on the training images that are searched, and on
others that no search saw; no tuning. The VGG-like net (10 convolutions with batch norm and 2 dense layers) learns
CIFAR-10, which must have been prepared: jax-prune data prepare cifar10.

Command: python benchmarks/search_nets.py --data_dir=DIR --out=docs/results/search_nets.json
On seeds and images that no setting was chosen on, from the allocations alone:
python benchmarks/search_nets.py --data_dir=DIR --algorithms= --first_seed=100 --out=docs/results/search_nets_fresh.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from flax import nnx

from jax_prune import baselines, datasets, evosearch, learning, nets, rounds, storage
from jax_prune.evosearch import BudgetLoss, Config, MaskedLoss, sensitivity
from jax_prune.pruning import groups, masks, scores
from jax_prune.report import versions
from jax_prune.types import Array, Batch, Net

LOCAL = "local random"
DATA_DIR = flags.DEFINE_string("data_dir", None, "where cifar10 was prepared")
NETS = flags.DEFINE_list("nets", ["lenet300", "lenet5", "vgg12"], "networks")
KEEP = flags.DEFINE_string("keep", None, "folder in which trained nets are kept and found again")
SEEDS = flags.DEFINE_integer("seeds", 5, "searches of each algorithm")
FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "the first one's seed, and that of the images that are searched")
POPULATION = flags.DEFINE_integer("population", 24, "candidates a generation")
GENERATIONS = flags.DEFINE_integer("generations", 15, "generations after the initial one")
ALGORITHMS = flags.DEFINE_list(
    "algorithms", [*evosearch.ALGORITHMS, "evosax:DifferentialEvolution", "evosax:CMA_ES"], "searches"
)
WARM = flags.DEFINE_list(
    "warm",
    [*evosearch.ALGORITHMS, LOCAL, "evosax:DifferentialEvolution", "evosax:CMA_ES"],
    "searches whose first candidates are the allocations that need no search, and what is near the best of them; "
    f"'{LOCAL}' draws all later ones near the best so far",
)
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

COMPRESSIONS = {"lenet300": (4.0, 10.0, 27.0), "lenet5": (4.0, 10.0), "vgg12": (2.0,)}
EXAMPLES = {"lenet300": 1000, "lenet5": 500, "vgg12": 250}
OTHERS = 2000  # training images on which what was found is judged once more
STEPS = {"lenet300": 1500, "lenet5": 600, "vgg12": 1500}
SWEEP = np.array([*np.linspace(0.0, 0.9, 10), 0.95, 0.97, 0.985, 0.995], np.float32)
WIDTHS = (8, 8, 16, 16, 32, 32, 32, 32, 32, 32)
POOLED = (1, 3, 6, 9)  # after these convolutions


class VGG12(nnx.Module):
    """Images [B, 32, 32, 3] uint8 to logits [B, 10]."""

    def __init__(self, *, rngs: nnx.Rngs):
        inputs = (3, *WIDTHS[:-1])
        self.convolutions = nnx.List(
            [nnx.Conv(i, o, (3, 3), use_bias=False, rngs=rngs) for i, o in zip(inputs, WIDTHS, strict=True)]
        )
        self.norms = nnx.List([nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for width in WIDTHS])
        self.hidden = nnx.Linear(4 * WIDTHS[-1], 64, rngs=rngs)
        self.last = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        x = images.astype(jnp.float32) / 128 - 1
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = jax.nn.relu(norm(convolution(x)))
            if index in POOLED:
                x = nets.lowering.max_pool_2x2(x)
        return self.last(jax.nn.relu(self.hidden(x.reshape(len(x), -1))))


def main(_: list[str]) -> None:
    begin = time.perf_counter()
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/search_nets.py", *map(_told, sys.argv[1:])]),
        "settings": {flag.name: flag.value for flag in (SEEDS, FIRST_SEED, POPULATION, GENERATIONS, ALGORITHMS, WARM)},
        "evaluations": POPULATION.value * (GENERATIONS.value + 1),
        "nets": {},
        "versions": versions(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    for name in NETS.value:
        net, sample, accuracy = net_and_sample(name, EXAMPLES[name] + OTHERS, FIRST_SEED.value)
        searched, others = (
            jax.tree.map(lambda leaf, part=part: leaf[part], sample)
            for part in (slice(EXAMPLES[name]), slice(EXAMPLES[name], None))
        )
        result["nets"][name] = {
            "accuracy": accuracy,
            "layers": len(groups.weight_groups(net.params)),
            "examples": EXAMPLES[name],
            "other_examples": OTHERS,
            "budgets": [_row(name, net, searched, others, compression) for compression in COMPRESSIONS[name]],
        }
        result["seconds"] = time.perf_counter() - begin
        if OUT.value:
            Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _told(argument: str) -> str:
    """A flag as the results name it: folders of a machine are not."""
    name, _, _ = argument.partition("=")
    return f"{name}=DIR" if name.lstrip("-") in ("data_dir", "keep") else argument


def _row(name: str, net: Net, sample: Batch, others: Batch, compression: float) -> dict[str, Any]:
    """One budget: what every algorithm and allocation loses, on the images that are searched and on ``others``."""
    fitness = fitness_of(net, sample, compression)
    masked, bounds, budget = fitness.masked, fitness.bounds, int(fitness.budget)
    parts, found = masked.groups, {}
    elsewhere = fitness_of(net, others, compression, recalibration=sample.x[:100]).masked
    swept = SWEEP, sensitivity.curves(masked, SWEEP).loss
    question = rounds.Question(masked, scores.magnitude(net.params, parts), bounds, budget, None, 1.0, swept)
    static = baselines.unsearched(question, budget, ("uniform", "erk", "lamp", "global", "greedy"))
    known = np.stack([evosearch.genome_of(kept, masked.groups) for kept in static.values()])
    best = evosearch.genome_of(static[baselines.judged(masked, static).order[0]], masked.groups)
    searches = [(algorithm, algorithm, False) for algorithm in ALGORITHMS.value]
    searches += [(f"{algorithm}, from the allocations", algorithm, True) for algorithm in WARM.value]
    for title, algorithm, warm in searches:
        runs = [_found(fitness, elsewhere, algorithm, seed, _start(seed, known, best, fitness) if warm else None)
                for seed in range(FIRST_SEED.value, FIRST_SEED.value + SEEDS.value)]  # fmt: skip
        table = {key: [run[key] for run in runs] for key in runs[0]}
        found[title] = {
            "mean": statistics.mean(table["all"]),
            "mean_elsewhere": statistics.mean(table["elsewhere"]),
            **table,
        }
        print(
            name, compression, title, *(round(found[title][key], 5) for key in ("mean", "mean_elsewhere")), flush=True
        )
    return {
        "compression": compression,
        "kept": budget,
        "dense_loss": float(masked(jnp.asarray(masked.sizes, jnp.int32)).loss),
        "searched": found,
        "unsearched": baselines.judged(masked, static).losses,
        "unsearched_elsewhere": baselines.judged(elsewhere, static).losses,
    }


def _start(seed: int, known: np.ndarray, best: np.ndarray, fitness: BudgetLoss) -> np.ndarray:
    """The allocations and what is near the best of them, as the study's searches begin."""
    near = evosearch.around(jax.random.key(1000 + seed), best, max(POPULATION.value - len(known), 0), fitness.box)
    return np.concatenate([known, np.asarray(near)])[: POPULATION.value]


@jax.jit
def _losses(fitness: BudgetLoss, genomes: Array) -> Array:
    """Of candidates [P, V], one after the other: [P], infinite where the net has collapsed."""
    score = jax.lax.map(fitness, genomes)
    return jnp.where(score.violation > 0, jnp.inf, score.value)


def fitness_of(
    net: Net, sample: Batch, compression: float, chunk: int = 250, recalibration: Array | None = None
) -> BudgetLoss:
    """The loss with one weight in ``compression`` kept, by magnitude within layers."""
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    seen = sample.x[:100] if recalibration is None else recalibration
    masked = evosearch.masked_loss(net, parts, ranks, sample, learning.cross_entropy, recalibration=seen, chunk=chunk)
    return evosearch.budget_loss(masked, round(sum(masked.sizes) / compression), groups.bounds(parts))


def _found(
    fitness: BudgetLoss,
    elsewhere: MaskedLoss,
    algorithm: str,
    seed: int,
    start: np.ndarray | None,
) -> dict[str, float]:
    """One search: its loss, that on other images, and the share of the work that early decisions left."""
    key = jax.random.key(seed)
    if algorithm == LOCAL:
        assert start is not None
        best, loss, work = *_climbed(key, fitness, start), 1.0
    else:
        config = Config(algorithm=algorithm, population=POPULATION.value, generations=GENERATIONS.value)
        run = evosearch.search(key, config, fitness.box, fitness, start=start)
        best, loss = jnp.asarray(run.best), float(run.score.value)
        work = float(run.info.work.sum() / run.info.evaluated.sum())
    other = baselines.judged(elsewhere, {"it": np.asarray(fitness.kept(best))}).losses["it"]
    return {"all": loss, "elsewhere": other, "work": work}


def _climbed(key: Array, fitness: BudgetLoss, start: np.ndarray) -> tuple[Array, float]:
    """Random search near the best so far, as many evaluations: the best vector and its loss."""
    candidates = jnp.asarray(start)
    best, least = candidates[0], np.inf
    for generation in range(GENERATIONS.value + 1):
        found = np.asarray(_losses(fitness, candidates))
        if found.min() < least:
            best, least = candidates[int(found.argmin())], float(found.min())
        candidates = evosearch.around(jax.random.fold_in(key, generation), best, POPULATION.value, fitness.box)
    return best, least


def net_and_sample(name: str, examples: int, seed: int = 0) -> tuple[Net, Batch, float]:
    """A trained net, so many training examples, drawn, and its accuracy on the validation split."""
    splits = datasets.load("cifar10", data_dir=DATA_DIR.value) if name == "vgg12" else datasets.load("mnist")
    net = nets.from_nnx(VGG12(rngs=nnx.Rngs(0))) if name == "vgg12" else nets.build(name)
    path = Path(KEEP.value or ".") / f"{name}.safetensors"
    if KEEP.value and path.exists():
        trees = storage.unflatten_paths(storage.load_arrays(path)[0])
        net = net.replace(params=jax.tree.map(jnp.asarray, trees["params"]))
        net = net.replace(state=jax.tree.map(jnp.asarray, trees.get("state", net.state)))
    else:
        net = _trained(name, net, splits.train)
        if KEEP.value:
            trees = {"params": net.params, **({"state": net.state} if jax.tree.leaves(net.state) else {})}
            flat = {path: np.asarray(leaf) for path, leaf in storage.flatten_paths(trees).items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.save_arrays(path, flat, {"kind": "net"})
    chosen = np.random.default_rng(seed).choice(len(splits.train.y), examples, replace=False)
    sample = Batch(jnp.asarray(splits.train.x[chosen]), jnp.asarray(splits.train.y[chosen]))
    (accuracy,) = learning.evaluate(net, splits.validation, learning.correct)
    return net, sample, accuracy


def _trained(name: str, net: Net, data: Batch) -> Net:
    """A plain loop: Adam with a cosine schedule, batch 128, nothing of the package's own."""
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, STEPS[name]))

    def loss(params: Any, state: Any, x: Array, y: Array) -> tuple[Array, Any]:
        outputs, state = net.apply(params, state, x, train=True, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), state

    @jax.jit
    def step(params: Any, state: Any, moments: Any, x: Array, y: Array) -> tuple[Any, Any, Any]:
        slope, state = jax.grad(loss, has_aux=True)(params, state, x, y)
        updates, moments = optimizer.update(slope, moments, params)
        return optax.apply_updates(params, updates), state, moments

    rng, params, state, moments = np.random.default_rng(0), net.params, net.state, optimizer.init(net.params)
    for _ in range(STEPS[name]):
        rows = rng.integers(0, len(data.y), 128)
        params, state, moments = step(params, state, moments, data.x[rows], data.y[rows])
    return net.replace(params=params, state=state)


if __name__ == "__main__":
    app.run(main)
