"""Candidates a second on an accelerator, and the share of its GEMM peak: LeNet-300-100, LeNet-5, VGG16 for CIFAR.

Populations of 64 to 4,096 masked networks, magnitude ranks, a 10x budget, no races, products in float32 and bfloat16,
so many candidates at once as the probe finds fastest within the memory limit. The peak is measured in the same
process: the fastest of several square bfloat16 products. Weights and images are random: neither changes the time. On a
CPU it runs too, slowly; its figures are for GPU and TPU.

Command: python benchmarks/accelerator.py --out=docs/results/accelerator.json   (--smoke: a minute on two CPU cores)
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jax_prune import evosearch, learning, nets
from jax_prune.evosearch import probe
from jax_prune.evosearch.masked import PRECISIONS
from jax_prune.pruning import costs, groups, masks, scores
from jax_prune.report import versions
from jax_prune.types import Batch

OUT = flags.DEFINE_string("out", None, "file for the JSON result")
NETS = flags.DEFINE_list("nets", ["lenet300", "lenet5", "vgg16_cifar"], "networks")
POPULATIONS = flags.DEFINE_list("populations", ["64", "256", "1024", "4096"], "candidates a generation")
WIDTHS = flags.DEFINE_list("widths", ["1", "4", "16", "64", "256"], "candidates at once, of which the fastest counts")
MEMORY = flags.DEFINE_integer("memory", 16 * 2**30, "bytes that a program may take beside its arguments")
SMOKE = flags.DEFINE_boolean("smoke", False, "LeNet-300-100 alone, 500 images, two small populations")

EXAMPLES = {"lenet300": 10_000, "lenet5": 10_000, "vgg16_cifar": 1_000}
SIDES = (2048, 4096, 8192)  # of the square products whose fastest is the peak
COMPRESSION = 10
REPEATS = 5


def main(_: list[str]) -> None:
    if SMOKE.value:
        flags.FLAGS.nets, flags.FLAGS.populations, flags.FLAGS.widths = ["lenet300"], ["4", "8"], ["1", "4"]
    peak = _peak(SIDES[:1] if SMOKE.value else SIDES)
    result: dict[str, Any] = {
        "command": "python benchmarks/accelerator.py",
        "device": jax.devices()[0].device_kind,
        "peak_bfloat16_flops": peak,
        "nets": {},
        "versions": versions(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    for name in NETS.value:
        examples = 500 if SMOKE.value else EXAMPLES[name]
        rows = [_rows(name, examples, precision, peak) for precision in PRECISIONS]
        result["nets"][name] = {"examples": examples, "rows": [row for of in rows for row in of]}
        if OUT.value:
            Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _rows(name: str, examples: int, precision: str, peak: float) -> list[dict[str, Any]]:
    """Every population at one precision; the width is probed once, on the smallest."""
    masked, flops = _masked(name, examples, precision)
    fitness = evosearch.budget_loss(masked, sum(masked.sizes) // COMPRESSION, groups.bounds(masked.groups))
    populations, width, rows = sorted(map(int, POPULATIONS.value)), None, []
    for population in populations:
        config = evosearch.Config(population=population)
        genomes = evosearch.init(jax.random.key(0), config, fitness.box).population
        if width is None:
            width = probe.at_once(fitness, genomes, tuple(map(int, WIDTHS.value)), MEMORY.value)
        seconds = _seconds(lambda of=genomes, at=width: evosearch.evaluate(fitness, of, at))
        rate = population / statistics.median(seconds)
        rows.append(
            {
                "precision": precision,
                "population": population,
                "at_once": width,
                "candidates_per_second": rate,
                "share_of_peak": rate * flops / peak,
                "seconds": seconds,
            }
        )
        print(name, rows[-1], flush=True)
    return rows


def _masked(name: str, examples: int, precision: str) -> tuple[evosearch.MaskedLoss, int]:
    """The masked loss of a fresh net on random images, and a candidate's FLOP (two a multiply-accumulate)."""
    net, random = nets.build(name), np.random.default_rng(0)
    images = random.integers(256, size=(examples, *nets.ZOO[name].shape), dtype=np.uint8)
    sample = Batch(jnp.asarray(images), jnp.asarray(random.integers(10, size=examples)))
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    masked = evosearch.masked_loss(net, parts, ranks, sample, learning.cross_entropy, precision=precision)
    return masked, 2 * sum(costs.macs(net, images[:1]).values()) * examples


def _peak(sides: tuple[int, ...]) -> float:
    """FLOP/s of the fastest square product in bfloat16."""
    product = jax.jit(lambda matrix: matrix @ matrix)
    squares = [jnp.ones((side, side), jnp.bfloat16) for side in sides]
    return max(2 * len(s) ** 3 / statistics.median(_seconds(lambda s=s: product(s))) for s in squares)


def _seconds(function: Callable[[], Any]) -> list[float]:
    jax.block_until_ready(function())
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    app.run(main)
