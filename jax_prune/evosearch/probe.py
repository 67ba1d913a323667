"""How many candidates to evaluate at once: a short timing under a stated memory limit.

Dense layers want many (one GEMM for all), convolutions on CPU want one (many would lower to grouped
convolutions, five times slower), and memory bounds both. The choice changes the last bits of a loss,
so a run that shall be repeated exactly saves it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.evosearch.evaluation import Fitness, as_pytree, evaluated
from jax_prune.types import Array

REPEATS = 2  # the least counts: other programs only ever slow one down
GIVE_UP = 1.3  # a width this much slower than the best so far: wider ones are not tried


class Timing(NamedTuple):
    """One width: seconds a candidate (None: over the limit, not run), and bytes beside its arguments."""

    at_once: int
    seconds: float | None
    bytes: int


def at_once(
    fitness: Fitness, genomes: Array, candidates: Sequence[int] = (1, 4, 16), memory_limit: int = 2 * 2**30
) -> int:
    """The width with the fewest seconds a candidate among ``candidates`` and P; see ``measure``."""
    return fastest(measure(fitness, genomes, candidates, memory_limit))


def measure(
    fitness: Fitness, genomes: Array, candidates: Sequence[int] = (1, 4, 16), memory_limit: int = 2 * 2**30
) -> tuple[Timing, ...]:
    """Compiles and times the evaluation of genomes [P, G] at every width up to P, narrow ones first.

    A width whose program needs more than ``memory_limit`` bytes for results and temporaries is not run.
    Raises BadInput where not even one candidate fits the limit.
    """
    fitness, genomes = as_pytree(fitness), jnp.asarray(genomes)
    population = len(genomes)
    timings: list[Timing] = []
    for width in sorted({min(width, population) for width in (*candidates, population)}):
        timing = _timing(fitness, genomes[:width], width, memory_limit)
        timings.append(timing)
        if timing.seconds is None or timing.seconds > GIVE_UP * min(_times(timings)):
            break
    if not _times(timings):
        need, width = timings[0].bytes, timings[0].at_once
        raise BadInput(f"{need:,} bytes for {width} candidates at once, the limit is {memory_limit:,}: raise it")
    return tuple(timings)


def body_bytes(fitness: Fitness, genomes: Array, at_once: int) -> int:
    """What a program of ``at_once`` candidates allocates beside its arguments; compiled for genomes [P, G], not run."""
    return _bytes(evaluated.lower(as_pytree(fitness), jnp.asarray(genomes)[:at_once], at_once=at_once).compile())


def fastest(timings: Sequence[Timing]) -> int:
    """The width with the fewest seconds a candidate, of those that were run."""
    run = [(timing.seconds, timing.at_once) for timing in timings if timing.seconds is not None]
    return min(run)[1]


def _timing(fitness: Fitness, genomes: Array, width: int, memory_limit: int) -> Timing:
    compiled = evaluated.lower(fitness, genomes, at_once=width).compile()
    size = _bytes(compiled)
    if size > memory_limit:
        return Timing(width, None, size)
    jax.block_until_ready(compiled(fitness, genomes))  # the first run touches new memory
    return Timing(width, min(_seconds(compiled, fitness, genomes) for _ in range(REPEATS)) / width, size)


def _seconds(compiled: jax.stages.Compiled, fitness: Fitness, genomes: Array) -> float:
    start = time.perf_counter()
    jax.block_until_ready(compiled(fitness, genomes))
    return time.perf_counter() - start


def _bytes(compiled: jax.stages.Compiled) -> int:
    """What the program allocates beside its arguments; 0 where the backend does not tell."""
    analysis = compiled.memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def _times(timings: Sequence[Timing]) -> list[float]:
    return [timing.seconds for timing in timings if timing.seconds is not None]
