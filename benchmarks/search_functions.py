"""evosearch against SciPy, evosax and pymoo on known functions, at equal evaluations and population.

Every algorithm gets 4,800 evaluations, its initial candidates included, from a population of 30, and 15 seeds;
evosax's CMA-ES through our adapter. The best vector of each run is scored again in float64; below 1e-8 it counts as
solved, 0 (as in the CEC competitions), and where it misses the constraint by more than 1e-6 as infinite. Nothing is
tuned here: every algorithm has its own defaults.

Command: python benchmarks/search_functions.py --out=docs/results/search_functions.json
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from problems import PROBLEMS, Problem
from rivals import PENALTY, RIVALS

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, Score

SEEDS = flags.DEFINE_integer("seeds", 15, "runs of each algorithm on each function")
POPULATION = flags.DEFINE_integer("population", 30, "candidates of a generation, of the first one for lshade")
GENERATIONS = flags.DEFINE_integer("generations", 159, "generations beside the initial one")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")

SOLVED = 1e-8
FEASIBLE = 1e-6  # float32 may miss a constraint that it just meets by this much
OURS = (*evosearch.ALGORITHMS, "evosax:CMA_ES")
PEERS = tuple(RIVALS)


def main(_: list[str]) -> None:
    begin = time.perf_counter()
    rows = {problem.name: _row(problem) for problem in PROBLEMS}
    default = Config().algorithm
    result = {
        "command": "python benchmarks/search_functions.py",
        "settings": {
            "seeds": SEEDS.value,
            "population": POPULATION.value,
            "evaluations": POPULATION.value * (GENERATIONS.value + 1),
            "solved_below": SOLVED,
            "constraint": f"ours, scipy and pymoo: their own handling; evosax DE: value + {PENALTY:g} x violation",
        },
        "default": default,
        "rows": rows,
        "gap": {name: _gap(found, default) for name, found in rows.items()},
        "versions": {name: version(name) for name in ("jax", "scipy", "evosax", "pymoo", "numpy")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seconds": time.perf_counter() - begin,
    }
    print(_table(rows))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")


def _row(problem: Problem) -> dict[str, Any]:
    """Of every algorithm: median and quartiles of the best value over the seeds."""
    searches: dict[str, Callable[..., np.ndarray]] = {name: partial(_ours, name) for name in OURS} | RIVALS
    row = {}
    for name, run in searches.items():
        begin = time.perf_counter()
        found = [run(problem, POPULATION.value, GENERATIONS.value, seed) for seed in range(SEEDS.value)]
        values = [_value(problem, vector) for vector in found]
        first, median, third = map(float, np.quantile(values, (0.25, 0.5, 0.75), method="nearest"))
        row[name] = {"median": median, "quartiles": [first, third], "all": values}
        print(f"{problem.name} {name}: {median:.4g} in {time.perf_counter() - begin:.1f} s", flush=True)
    return row


def _ours(algorithm: str, problem: Problem, population: int, generations: int, seed: int) -> np.ndarray:
    config = Config(algorithm, population, generations, at_once=population, chunk=10 * generations)
    result = evosearch.search(jax.random.key(seed), config, Bounds(problem.lower, problem.upper), _fitness(problem))
    assert result.info.evaluated.sum() == population * (generations + 1)
    return result.best


def _fitness(problem: Problem) -> Any:
    """The problem's number is an argument, so that those of one length share a compiled program."""
    same = [other for other in PROBLEMS if len(other.lower) == len(problem.lower)]
    index = [other.name for other in same].index(problem.name)
    functions = tuple(other.function for other in same)
    return jax.tree_util.Partial(_switched(functions), jnp.int32(index))


@cache
def _switched(functions: tuple[Any, ...]) -> Callable[[jax.Array, jax.Array], Score]:
    def fitness(index: jax.Array, genome: jax.Array) -> Score:
        branches = [lambda x, f=function: tuple(map(jnp.float32, f(jnp, x))) for function in functions]
        return Score(*jax.lax.switch(index, branches, genome))

    return fitness


def _value(problem: Problem, vector: np.ndarray) -> float:
    """In float64; 0 where solved, infinite where not feasible."""
    value, violation = problem.function(np, np.asarray(vector, np.float64))
    if violation > FEASIBLE:
        return float("inf")
    return 0.0 if value < SOLVED else float(value)


def _gap(found: dict[str, Any], default: str) -> dict[str, Any]:
    """Who has a lower median than the default, and how many times lower; for the peers, whether the default wins."""
    ours = found[default]["median"]
    lower = {name: entry["median"] for name, entry in found.items() if entry["median"] < ours}
    return {
        "default_median": ours,
        "default_beats": {name: bool(ours < found[name]["median"]) for name in PEERS},
        "lower_medians": dict(sorted(lower.items(), key=lambda entry: entry[1])),
    }


def _table(rows: dict[str, Any]) -> str:
    """Medians as Markdown, the lowest of each function in bold."""
    names = list(next(iter(rows.values())))
    lines = ["| algorithm | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name in names:
        cells = []
        for found in rows.values():
            best = min(entry["median"] for entry in found.values())
            text = f"{found[name]['median']:.4g}"
            cells.append(f"**{text}**" if found[name]["median"] == best else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    app.run(main)
