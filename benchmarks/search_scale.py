"""What the algorithms themselves cost at scale: 1,000 layers, 1,024 candidates, 100 generations of a cheap fitness.

Of every row: seconds of a search whose program is compiled already, on the clock and of all cores together (where other
programs run, the former says little), and the bytes that one step holds beside its arguments, at 1,024 and at four
times as many candidates: a memory linear in P grows four times.

Command: python benchmarks/search_scale.py --out=docs/results/search_scale.json
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config

LAYERS = flags.DEFINE_integer("layers", 1000, "entries of a vector")
POPULATION = flags.DEFINE_integer("population", 1024, "candidates of a generation; memory also at four times as many")
GENERATIONS = flags.DEFINE_integer("generations", 99, "generations beside the initial one")
ALGORITHMS = flags.DEFINE_list("algorithms", list(evosearch.ALGORITHMS), "rows of the table")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

BAR = 10.0  # seconds on 2 cores
REPEATS = 3  # the least counts: other programs only ever slow one down


def main(_: list[str]) -> None:
    rows = {name: _row(name) for name in ALGORITHMS.value}
    result = {
        "command": "python benchmarks/search_scale.py",
        "settings": {flag.name: flag.value for flag in (LAYERS, POPULATION, GENERATIONS)} | {"bar_seconds": BAR},
        "rows": rows,
        "load": os.getloadavg(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "jax": jax.__version__,
    }
    print(json.dumps(result, indent=1))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")


def _row(algorithm: str) -> dict[str, Any]:
    config = _config(algorithm, POPULATION.value)
    _search(config)
    seconds, of_cores = map(min, zip(*(_timed(config) for _ in range(REPEATS)), strict=True))
    small, large = _bytes(config), _bytes(_config(algorithm, 4 * POPULATION.value))
    row = {
        "seconds": seconds,
        "seconds_of_cores": of_cores,
        "generations_run": len(config.sizes),
        "below_bar": seconds < BAR,
        "bytes": small,
        "bytes_of_4_times_the_population": large,
        "growth": large / small,
    }
    print(algorithm, row, flush=True)
    return row


def _config(algorithm: str, population: int) -> Config:
    return Config(algorithm, population, GENERATIONS.value, at_once=population, chunk=10)


def _timed(config: Config) -> tuple[float, float]:
    begin, begin_cores = time.perf_counter(), time.process_time()
    _search(config)
    return time.perf_counter() - begin, time.process_time() - begin_cores


def _search(config: Config) -> None:
    """Rows of every generation come to the host, as in any search."""
    box = Bounds(np.full(LAYERS.value, -5.0), np.full(LAYERS.value, 5.0))
    evosearch.search(jax.random.key(0), config, box, _sphere)


def _bytes(config: Config) -> int:
    """Results and temporaries of one step."""
    box = Bounds(*(jnp.full(LAYERS.value, side, jnp.float32) for side in (-5.0, 5.0)))
    state = jax.eval_shape(lambda key: evosearch.init(key, config, Bounds(*map(np.asarray, box))), jax.random.key(0))
    step = jax.jit(evosearch.step, static_argnames="config")
    fitness = jax.tree_util.Partial(_sphere)
    compiled = step.lower(jax.random.key(0), state, config=config, bounds=box, fitness=fitness).compile()
    analysis = compiled.memory_analysis()
    return int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def _sphere(genome: jax.Array) -> jax.Array:
    return jnp.sum((genome - 1) ** 2)


if __name__ == "__main__":
    app.run(main)
