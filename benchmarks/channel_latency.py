"""What a cut of multiply-accumulates is worth in time: compact networks against the dense one, batch 1 and 256, jitted.

Uniform shares of every group at half and a quarter of the products, as they come and in multiples of 16. Weights and
images are random: neither changes the time. The networks take turns; medians.

Command: python benchmarks/channel_latency.py --out=docs/results/channel_latency.json
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from jax_prune import narrowing, nets, targets
from jax_prune.pruning import latency
from jax_prune.pruning.channel_costs import spent
from jax_prune.report import versions
from jax_prune.types import Net

OUT = flags.DEFINE_string("out", None, "file for the JSON result")
NETS = flags.DEFINE_list("nets", ["vgg16_cifar"], "networks of the zoo")
SHARES = flags.DEFINE_list("shares", ["0.5", "0.25"], "of the multiply-accumulates that stay")
STEPS = flags.DEFINE_list("round_to", ["1", "16"], "kept channels are multiples of it")
BATCHES = flags.DEFINE_list("batches", ["1", "256"], "images of a call")
TURNS = flags.DEFINE_integer("turns", 15, "timed calls of each network and batch")


def main(_: list[str]) -> None:
    result = {
        "command": "python benchmarks/channel_latency.py",
        "settings": {flag.name: flag.value for flag in (NETS, SHARES, STEPS, BATCHES, TURNS)},
        "device": jax.devices()[0].device_kind,
        "nets": {name: _timed(name) for name in NETS.value},
        "versions": versions(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def _timed(name: str) -> dict[str, Any]:
    """Seconds of every cut and batch, and the share of time cut over the share of products cut."""
    net, (height, width, channels) = nets.build(name), nets.ZOO[name].shape
    small = {(share, step): _cut(net, (height, width, channels), share, step) for share in map(float, SHARES.value)
             for step in map(int, STEPS.value)}  # fmt: skip
    found: dict[str, Any] = {}
    for batch in map(int, BATCHES.value):
        x = np.random.default_rng(0).integers(0, 256, (batch, height, width, channels)).astype(np.uint8)
        dense, *others = latency.measure([net, *(each for each, _ in small.values())], x, rounds=TURNS.value)
        found[f"batch {batch}"] = {"dense": {"seconds": float(dense)}} | {
            f"{share:g} of the products, multiples of {step}": _row(seconds / dense, kept, seconds)
            for ((share, step), (_, kept)), seconds in zip(small.items(), others, strict=True)
        }
        print(name, batch, json.dumps(found[f"batch {batch}"]), flush=True)
    return found


def _row(time: float, products: float, seconds: float) -> dict[str, float]:
    """``time`` and ``products`` are shares of the dense network's."""
    return {
        "seconds": float(seconds),
        "time": float(time),
        "products": products,
        "time_cut_over_products_cut": float((1 - time) / (1 - products)),
    }


def _cut(net: Net, shape: tuple[int, int, int], share: float, step: int) -> tuple[Net, float]:
    """The smaller network, and the share of the products that it has."""
    example = np.zeros((1, *shape), np.uint8)
    target = targets.target(net, example, targets.shares(macs=share), round_to=step)
    chosen = narrowing.chosen_by("uniform", net, target)
    cost = target.costs["macs"]
    kept = spent(cost, chosen.counts) / spent(cost, np.asarray([group.size for group in target.groups]))
    return narrowing.cut(net, target, chosen.flags, example), kept


if __name__ == "__main__":
    app.run(main)
