"""What tracing a network's channel groups takes beyond tracing its program: seconds, and memory at its peak.

DenseNets of growing depth, since every layer of one reads all before it, and other deep networks of the zoo. Nothing is
computed: networks are shapes. Medians of several runs; memory is Python's own, by tracemalloc in a run of its own.

Command: python benchmarks/tracing.py --out=docs/results/tracing.json
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from jax_prune import nets
from jax_prune.pruning import groups
from jax_prune.report import versions
from jax_prune.types import Net

OUT = flags.DEFINE_string("out", None, "file for the JSON result")
RUNS = flags.DEFINE_integer("runs", 3, "timed runs of each")

DENSENET201 = {"depths": (6, 12, 48, 32)}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "DenseNet-121": ("densenet121", {}),
    "DenseNet-169": ("densenet169", {}),
    "DenseNet-201, 200 convolutions": ("densenet121", DENSENET201),
    "ResNet-50": ("resnet50", {}),
    "VGG16": ("vgg16_bn", {}),
}


def main(_: list[str]) -> None:
    result = {
        "command": "python benchmarks/tracing.py",
        "settings": {"runs": RUNS.value},
        "networks": {title: _measured(name, options) for title, (name, options) in NETWORKS.items()},
        "versions": versions(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def _measured(name: str, options: dict[str, Any]) -> dict[str, Any]:
    net = jax.eval_shape(lambda: nets.build(name, **options))
    example = jax.ShapeDtypeStruct((1, *nets.ZOO[name].shape), jnp.float32)
    program, traced = partial(_program, net, example), partial(groups.trace, net, example)
    traced()  # what is compiled once a process
    seconds = {"make_jaxpr": _seconds(program), "trace": _seconds(traced)}
    found = {
        "groups": len(traced()),
        "seconds": seconds,
        "seconds_beyond_make_jaxpr": seconds["trace"] - seconds["make_jaxpr"],
        "peak_megabytes": {"make_jaxpr": _peak(program), "trace": _peak(traced)},
    }
    print(name, json.dumps(found), flush=True)
    return found


def _program(net: Net, example: Any) -> Any:
    return jax.make_jaxpr(lambda params, state, x: net.apply(params, state, x, train=False, key=None)[0])(
        net.params, net.state, example
    )


def _seconds(function: Callable[[], Any]) -> float:
    taken = []
    for _ in range(RUNS.value):
        jax.clear_caches()
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _peak(function: Callable[[], Any]) -> float:
    jax.clear_caches()
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    app.run(main)
