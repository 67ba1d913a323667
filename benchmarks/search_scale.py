"""What the algorithms themselves cost at scale: 1,000 layers, 1,024 candidates, 100 generations of a cheap fitness.

Of every row: seconds of searches whose programs are compiled already, on the clock and of all cores together (where
other programs run, the former says little), median, least and most over keys; how many programs a search compiles;
and the bytes that one step holds beside its arguments, at 1,024 and at four times as many candidates: a memory linear
in P grows four times. Then by how much a checkpoint at every look lengthens each, and the bytes that a generation of a
front of three objectives holds, at 4,096 candidates and at four times as many. It prints the rows as Markdown too.

Command: python benchmarks/search_scale.py --out=docs/results/search_scale.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, pareto
from jax_prune.evosearch.front import selected

LAYERS = flags.DEFINE_integer("layers", 1000, "entries of a vector")
POPULATION = flags.DEFINE_integer("population", 1024, "candidates of a generation; memory also at four times as many")
GENERATIONS = flags.DEFINE_integer("generations", 99, "generations beside the initial one")
ALGORITHMS = flags.DEFINE_list("algorithms", list(evosearch.ALGORITHMS), "rows of the table")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

BAR = 10.0  # seconds on 2 cores
REPEATS = flags.DEFINE_integer("repeats", 5, "searches of a row, each with a key of its own")
FRONT = flags.DEFINE_integer("front", 4096, "candidates of a front's generation")


def main(_: list[str]) -> None:
    rows = {name: _row(name) for name in ALGORITHMS.value}
    result = {
        "command": "python benchmarks/search_scale.py",
        "settings": {flag.name: flag.value for flag in (LAYERS, POPULATION, GENERATIONS, REPEATS, FRONT)}
        | {"bar_seconds": BAR},
        "rows": rows,
        "checkpoint": _saves(Config().algorithm),
        "front_bytes": [_front_bytes(times * FRONT.value) for times in (1, 4)],
        "load": os.getloadavg(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "jax": jax.__version__,
    }
    print(_table(rows))
    print(json.dumps(result, indent=1))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")


def _row(algorithm: str) -> dict[str, Any]:
    config = _config(algorithm, POPULATION.value)
    before = evosearch.compilations()
    _search(config, 0)
    programs = evosearch.compilations() - before
    seconds, of_cores = map(_spread, zip(*(_timed(config, seed) for seed in range(REPEATS.value)), strict=True))
    small, large = _bytes(config), _bytes(_config(algorithm, 4 * POPULATION.value))
    row = {
        "seconds": seconds,
        "seconds_of_cores": of_cores,
        "generations_run": len(config.sizes),
        "programs": programs,
        "below_bar": seconds["median"] < BAR,
        "bytes": small,
        "bytes_of_4_times_the_population": large,
        "growth": large / small,
    }
    print(algorithm, row, flush=True)
    return row


def _config(algorithm: str, population: int) -> Config:
    return Config(algorithm, population, GENERATIONS.value, at_once=population, chunk=10)


def _timed(config: Config, seed: int) -> tuple[float, float]:
    begin, begin_cores = time.perf_counter(), time.process_time()
    _search(config, seed)
    return time.perf_counter() - begin, time.process_time() - begin_cores


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _search(config: Config, seed: int, **where: Any) -> None:
    """Rows of every generation come to the host, as in any search."""
    box = Bounds(np.full(LAYERS.value, -5.0), np.full(LAYERS.value, 5.0))
    evosearch.search(jax.random.key(seed), config, box, _sphere, **where)


def _saves(algorithm: str) -> dict[str, Any]:
    """Of a search with a checkpoint at every look: by how much each lengthens it, and the bytes on disk at its end."""
    config, ends = _config(algorithm, POPULATION.value), []

    def lengths(**where: Any) -> np.ndarray:
        ends.clear()
        begin = time.perf_counter()
        _search(config, 0, progress=lambda *_: ends.append(time.perf_counter()), **where)
        return np.diff([begin, *ends])

    with tempfile.TemporaryDirectory() as folder:  # compiles, and imports what writes
        lengths(checkpoint=folder, checkpoint_seconds=0)
    plain = lengths()
    with tempfile.TemporaryDirectory() as folder:
        saved = lengths(checkpoint=folder, checkpoint_seconds=0)
        on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"algorithm": algorithm, "seconds_of_looks": (saved - plain).tolist(), "bytes": on_disk}


def _front_bytes(population: int) -> int:
    """Temporaries of a front's selection and archiving, three objectives and 16 entries a vector."""
    trials, archive = (jax.eval_shape(partial(pareto.empty, size, 16, 3)) for size in (population, 256))
    programs = (jax.jit(selected).lower(trials, trials), jax.jit(pareto.insert).lower(archive, trials))
    return sum(int(program.compile().memory_analysis().temp_size_in_bytes) for program in programs)


def _table(rows: dict[str, Any]) -> str:
    """Medians as Markdown."""
    lines = ["| algorithm | seconds | least to most | generations | programs | growth of memory |", "|---" * 6 + "|"]
    for name, row in rows.items():
        seconds = row["seconds"]
        cells = (f"{seconds['median']:.1f}", f"{seconds['least']:.1f} to {seconds['most']:.1f}")
        counts = (row["generations_run"], row["programs"], f"{row['growth']:.2f}")
        lines.append("| " + " | ".join(map(str, (name, *cells, *counts))) + " |")
    return "\n".join(lines)


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
