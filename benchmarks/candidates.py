"""Candidates a second: masked networks of one population, against PyTorch and against evosax with a naive vmap.

LeNet-300-100 on 10,000 training images, LeNet-5 on 1,000 (or --examples), P = 64. Timed are the generations of a search
after the first one, compiled. PyTorch loops over the same candidates with its best settings: thresholds looked up in
scores sorted once, channels_last for convolutions, the best of several batch sizes, inference mode. The naive JAX
baseline is evosax's DE with a fitness that sorts in every candidate, and one vmap. All take turns in processes of their
own, medians. Beside them: FLOP/s of evaluation without racing, as a share of a plain GEMM (dense) or of one unmasked
forward pass (convolutions) in the same process.

Command: python benchmarks/candidates.py --out=docs/results/candidates.json   (needs torch: pip install torch)
         --nets=lenet5 --examples=10000 --nonaive for what naive grouped convolutions would take hours for
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

OUT = flags.DEFINE_string("out", None, "file for the JSON result")
NETS = flags.DEFINE_list("nets", ["lenet300", "lenet5"], "networks")
KEEP = flags.DEFINE_string("keep", None, "folder of trained nets, as search_nets --keep leaves it")
ROUNDS = flags.DEFINE_integer("rounds", 3, "processes of each way, in turn; the median counts")
GENERATIONS = flags.DEFINE_integer("generations", 20, "generations that are timed")
EXAMPLES_OF = flags.DEFINE_integer("examples", 0, "training images; 0: 10,000 of LeNet-300-100, 1,000 of LeNet-5")
NAIVE = flags.DEFINE_boolean("naive", True, "also time evosax with a naive vmap")
DEVICES = flags.DEFINE_integer("devices", 1, "host devices that our searches share out candidates to")
ONLY = flags.DEFINE_string("only", None, "NET:WAY, time one and print it")

POPULATION = 64
EXAMPLES = {"lenet300": 10_000, "lenet5": 1_000}  # naive grouped convolutions over 10,000 take half an hour
COMPRESSIONS = {"lenet300": (4.0, 10.0), "lenet5": (10.0,)}
BATCHES = (250, 500, 1000, 2500, 5000, 10_000)
PRODUCTS = {"lenet300": 266_200, "lenet5": 2_293_000}  # multiply-accumulates an image
WAYS = ("plain", "exact", "paired", "torch", "naive", "peak")


def main(_: list[str]) -> None:
    if ONLY.value:
        name, way, *rest = ONLY.value.split(":")
        print(json.dumps(_ways()[way](name, *map(float, rest))))
        return
    begin, nets_found = time.perf_counter(), {}
    for name in NETS.value:
        asked = [(way, c) for c in COMPRESSIONS[name] for way in ("plain", "exact", "paired")]
        asked += [(way, None) for way in ("torch", *(("naive",) if NAIVE.value else ()), "peak")]
        runs: dict[Any, list[Any]] = {key: [] for key in asked}
        for _ in range(ROUNDS.value):
            for way, compression in asked:
                runs[way, compression].append(_in_own_process(name, way, compression))
                print(name, way, compression, runs[way, compression][-1], flush=True)
        nets_found[name] = _summary(name, runs)
    result = {
        "command": " ".join(["python benchmarks/candidates.py", *sys.argv[1:]]),
        "population": POPULATION,
        "examples": {name: _examples(name) for name in NETS.value},
        "nets": nets_found,
        "versions": {name: metadata.version(name) for name in ("jax", "jaxlib", "torch", "evosax")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seconds": time.perf_counter() - begin,
    }
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def _summary(name: str, runs: dict[Any, list[Any]]) -> dict[str, Any]:
    def median(way: str, compression: float | None, field: str) -> float:
        return statistics.median(run[field] for run in runs[way, compression])

    torch = median("torch", None, "candidates_per_second")
    naive = median("naive", None, "candidates_per_second") if NAIVE.value else None
    found: dict[str, Any] = {"torch": torch, "naive": naive, "torch_batch": runs["torch", None][0]["batch"]}
    found["share_of_peak"] = median("peak", None, "share")
    found["budgets"] = []
    for compression in COMPRESSIONS[name]:
        speeds = {way: median(way, compression, "candidates_per_second") for way in ("plain", "exact", "paired")}
        found["budgets"].append(
            {
                "compression": compression,
                "candidates_per_second": speeds,
                "times_torch": {way: speed / torch for way, speed in speeds.items()},
                "times_naive": {way: speed / naive for way, speed in speeds.items()} if naive else None,
                "share_of_work": {way: median(way, compression, "work") for way in ("exact", "paired")},
                "loss": {way: median(way, compression, "loss") for way in ("plain", "exact", "paired")},
                # what racing costs beside the share of work it does, against the same evaluation without it
                "overhead": median("exact", compression, "overhead"),
            }
        )
    return found


def _in_own_process(name: str, way: str, compression: float | None) -> dict[str, Any]:
    only = f"--only={name}:{way}" + (f":{compression}" if compression else "")
    command = [sys.executable, __file__, only, f"--generations={GENERATIONS.value}", f"--keep={KEEP.value or ''}"]
    command += [f"--examples={EXAMPLES_OF.value}", f"--devices={DEVICES.value}"]
    environment = dict(os.environ)
    if DEVICES.value > 1 and way in ("plain", "exact", "paired"):
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES.value}"
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1])


def _examples(name: str) -> int:
    return EXAMPLES_OF.value or EXAMPLES[name]


def _ways() -> dict[str, Callable[..., dict[str, Any]]]:
    return {
        "plain": lambda name, compression: _search(name, compression, "none", cached=False),
        "exact": lambda name, compression: _search(name, compression, "exact", cached=True),
        "paired": lambda name, compression: _search(name, compression, "paired", cached=True),
        "torch": _torch,
        "naive": _naive,
        "peak": _peak,
    }


def _masked(name: str) -> Any:
    """The trained net's masked loss on its images."""
    import jax
    import jax.numpy as jnp

    from jax_prune import datasets, evosearch, learning, nets, storage
    from jax_prune.pruning import groups, masks, scores
    from jax_prune.types import Batch

    data = datasets.load("mnist").train
    net = nets.build(name)
    if KEEP.value:
        trees = storage.unflatten_paths(storage.load_arrays(Path(KEEP.value) / f"{name}.safetensors")[0])
        net = net.replace(params=jax.tree.map(jnp.asarray, trees["params"]))
    else:
        recipe = learning.Recipe(batch_size=128)
        net = learning.train(
            jax.random.key(0), net, jax.device_put(data), recipe, loss=learning.cross_entropy, steps=800
        ).net
    chosen = np.random.default_rng(0).choice(len(data.y), _examples(name), replace=False)
    sample = Batch(jnp.asarray(data.x[chosen]), jnp.asarray(data.y[chosen]))
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    chunk = min(250, _examples(name) // 8)  # paired races want more than four
    return evosearch.masked_loss(net, parts, ranks, sample, learning.cross_entropy, chunk=chunk)


def _search(name: str, compression: float, race: str, cached: bool) -> dict[str, Any]:
    """Generations after the initial one, from the times at which the search looks up."""
    import jax

    from jax_prune import evosearch
    from jax_prune.pruning import groups
    from jax_prune.types import Bounds

    masked = _masked(name)
    bounds, budget = groups.bounds(masked.groups), round(sum(masked.sizes) / compression)
    if cached:
        lower = np.maximum(0, 1 - budget / np.asarray(masked.sizes)).astype(np.float32)
        masked = masked.cached(Bounds(lower, bounds.upper), 2**31)
    fitness = evosearch.budget_loss(masked, budget, bounds)
    mesh = None
    if DEVICES.value > 1:
        mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(-1, 1), evosearch.sharding.AXES)

    def timed(race: str) -> tuple[float, Any]:
        config = evosearch.Config(population=POPULATION, generations=GENERATIONS.value, chunk=1, race=race)
        looks: list[float] = []
        for _ in range(2):  # the first one compiles
            looks.clear()
            result = evosearch.search(
                jax.random.key(0), config, fitness.box, fitness, mesh=mesh,
                progress=lambda *_: looks.append(time.perf_counter()),
            )  # fmt: skip
        return looks[-1] - looks[0], result

    seconds, result = timed(race)
    evaluated = POPULATION * GENERATIONS.value
    work = float(result.info.work[1:].mean())
    found = {
        "candidates_per_second": evaluated / seconds,
        "work": work,
        "loss": float(fitness.loss(fitness.kept(result.best))),
    }
    if race == "exact":
        whole, _ = timed("none")
        found["overhead"] = seconds / (whole * work) - 1
    return found


def _candidates(masked: Any, compression: float = 10.0) -> np.ndarray:
    """Counts of a population at a budget, as a search proposes them."""
    import jax
    import jax.numpy as jnp

    from jax_prune import evosearch
    from jax_prune.pruning import groups

    fitness = evosearch.budget_loss(masked, round(sum(masked.sizes) / compression), groups.bounds(masked.groups))
    population = evosearch.init(jax.random.key(0), evosearch.Config(population=POPULATION), fitness.box).population
    return np.asarray(jax.vmap(fitness.kept)(jnp.asarray(population)))


def _torch(name: str) -> dict[str, Any]:
    import jax.numpy as jnp
    import torch
    from torch.nn import functional

    masked = _masked(name)
    kept = _candidates(masked)
    layers = [(np.asarray(masked.net.params[g.name]["kernel"]), np.asarray(masked.net.params[g.name]["bias"]))
              for g in masked.groups]  # fmt: skip
    x = torch.tensor(np.asarray(masked.chunks.batch.x)).reshape(-1, 28, 28, 1).float() / 255
    y = torch.tensor(np.asarray(masked.chunks.batch.y)).reshape(-1).long()
    weights = [torch.tensor(kernel.T if kernel.ndim == 2 else kernel.transpose(3, 2, 0, 1)) for kernel, _ in layers]
    biases = [torch.tensor(bias) for _, bias in layers]
    images = x.reshape(-1, 784) if name == "lenet300" else x.permute(0, 3, 1, 2)
    if name == "lenet5":
        images = images.contiguous(memory_format=torch.channels_last)
        weights = [w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w.contiguous() for w in weights]
        order = torch.arange(800).reshape(50, 4, 4).permute(1, 2, 0).reshape(-1)  # NHWC's flatten, in NCHW's places
        weights[2] = weights[2][:, torch.argsort(order)].contiguous()
    sizes = [np.abs(np.concatenate([kernel.ravel(), bias])) for kernel, bias in layers]
    ordered = [np.sort(size)[::-1] for size in sizes]  # thresholds are looked up, nothing is sorted in the loop

    def logits(inputs: Any, ws: list[Any], bs: list[Any]) -> Any:
        if name == "lenet300":
            hidden = functional.relu(functional.linear(inputs, ws[0], bs[0]))
            return functional.linear(functional.relu(functional.linear(hidden, ws[1], bs[1])), ws[2], bs[2])
        hidden = functional.max_pool2d(functional.conv2d(inputs, ws[0], bs[0]), 2)
        hidden = functional.max_pool2d(functional.conv2d(hidden, ws[1], bs[1]), 2)
        hidden = functional.relu(functional.linear(hidden.reshape(len(hidden), -1), ws[2], bs[2]))
        return functional.linear(hidden, ws[3], bs[3])

    @torch.inference_mode()
    def mean_loss(candidate: np.ndarray, batch: int = 10_000) -> float:
        cuts = [float(order[k - 1]) for order, k in zip(ordered, candidate, strict=True)]
        ws = [w * (w.abs() >= cut) for w, cut in zip(weights, cuts, strict=True)]
        bs = [b * (b.abs() >= cut) for b, cut in zip(biases, cuts, strict=True)]
        total = 0.0
        for first in range(0, len(y), batch):
            out = logits(images[first : first + batch], ws, bs)
            total += functional.cross_entropy(out, y[first : first + batch], reduction="sum")
        return float(total) / len(y)

    def population(batch: int, count: int) -> float:
        start = time.perf_counter()
        for candidate in kept[:count]:
            mean_loss(candidate, batch)
        return time.perf_counter() - start

    difference = abs(mean_loss(kept[0]) / float(masked(jnp.asarray(kept[0], jnp.int32)).loss) - 1)
    assert difference < 1e-3, f"PyTorch's loss differs by {difference:.2g}: not the same candidate"
    batches = [batch for batch in BATCHES if batch <= len(y)]
    for batch in batches:
        population(batch, 2)
    best = min(batches, key=lambda batch: min(population(batch, 6) for _ in range(2)))
    seconds = statistics.median(population(best, POPULATION) for _ in range(3))
    return {"candidates_per_second": POPULATION / seconds, "batch": best}


def _naive(name: str) -> dict[str, Any]:
    """evosax's DE asked for a population, and one vmap of a fitness that sorts every candidate's weights."""
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import DifferentialEvolution

    masked = _masked(name)
    net, names = masked.net, [group.name for group in masked.groups]
    x = masked.chunks.batch.x.reshape(-1, *masked.chunks.batch.x.shape[2:])[: _examples(name)]
    y = masked.chunks.batch.y.reshape(-1)[: _examples(name)]

    def fitness(ratios: Any, params: Any, x: Any, y: Any) -> Any:
        pruned = {}
        for ratio, layer in zip(ratios, names, strict=True):
            kernel = params[layer]["kernel"]
            ordered = jnp.sort(jnp.abs(kernel).ravel())
            cut = ordered[(jnp.clip(ratio, 0, 0.9995) * kernel.size).astype(int)]
            pruned[layer] = {**params[layer], "kernel": jnp.where(jnp.abs(kernel) >= cut, kernel, 0)}
        outputs, _ = net.apply(pruned, net.state, x, train=False, key=None)
        picked = jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)
        return -picked.mean()

    # in parts of the population where all of it at once would not fit the memory, as a user would do
    width = POPULATION if name == "lenet300" else 8
    evaluate = jax.jit(jax.vmap(fitness, in_axes=(0, None, None, None)))
    strategy = DifferentialEvolution(population_size=POPULATION, solution=jnp.zeros(len(names)))
    settings, key = strategy.default_params, jax.random.key(0)
    vectors = jax.random.uniform(key, (POPULATION, len(names)), maxval=0.9)

    def scored(vectors: Any) -> Any:
        parts = [evaluate(vectors[i : i + width], net.params, x, y) for i in range(0, POPULATION, width)]
        return jnp.concatenate(parts)

    state = strategy.init(key, vectors, scored(vectors), settings)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        asked, state = strategy.ask(key, state, settings)
        state, _ = strategy.tell(key, asked, scored(asked), state, settings)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    return {"candidates_per_second": POPULATION / statistics.median(times[1:])}


def _peak(name: str) -> dict[str, Any]:
    """Evaluation without racing, as a share of the FLOP/s of a plain GEMM, or of one unmasked forward pass."""
    import jax
    import jax.numpy as jnp

    from jax_prune import evosearch

    masked = _masked(name)
    kept = jnp.asarray(_candidates(masked)[:8], jnp.int32)
    evaluate = jax.jit(lambda masked, kept: evosearch.lift(masked, kept, 1))

    def median(function: Callable[[], Any]) -> float:
        jax.block_until_ready(function())
        times = []
        for _ in range(9):
            start = time.perf_counter()
            jax.block_until_ready(function())
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    ours = PRODUCTS[name] * _examples(name) * len(kept) / median(lambda: evaluate(masked, kept))
    if name == "lenet300":
        left, right = jnp.ones((_examples(name), 784)), jnp.ones((784, 300))
        gemm = jax.jit(lambda left, right: left @ right)
        shapes = [(left[:b], b) for b in (250, 1000, len(left))]
        best = max(784 * 300 * b / median(lambda part=part: gemm(part, right)) for part, b in shapes)
    else:
        net = masked.net
        forward = jax.jit(lambda params, x: net.apply(params, net.state, x, train=False, key=None)[0])
        chunks = [masked.chunks.batch.x[0], masked.chunks.batch.x.reshape(-1, 28, 28, 1)]
        best = max(PRODUCTS[name] * len(x) / median(lambda x=x: forward(net.params, x)) for x in chunks)
    return {"share": ours / best, "macs_per_second": ours, "peak_macs_per_second": best}


if __name__ == "__main__":
    app.run(main)
