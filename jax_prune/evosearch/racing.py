"""Early decisions that change nothing: a trial that cannot win any more is not evaluated to its end.

Where losses are never negative their running sum only grows, so a trial has lost for certain once the sum so far
is above its parent's total; where a part of the score is known beforehand it may have lost before it began. Races
over chunks of examples decide by confidence (Maron and Moore 1994); here nothing is left to chance, and the
populations are those of full evaluation.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jax_prune.evosearch.evaluation import Fitness, guarded, scored, some
from jax_prune.evosearch.score import Score, better, or_worst, worst
from jax_prune.types import Array

RACES = ("exact", "none")
SLACK = 1e-6  # a loop and what follows it may round the same expression differently: ties are not decided early


class Sums(NamedTuple):
    """Sums over examples of loss and metric: float32 scalars, or [P] for a population."""

    loss: Array
    metric: Array
    varying: Array  # chunks whose examples' outputs differ: none where the network has collapsed


@runtime_checkable
class Summed(Protocol):
    """A fitness that is known in part, and for the rest a sum over ``chunk_count`` chunks of examples.

    ``kept(genome [G])`` is what a genome stands for, int32 [G], and ``prepare(kept)`` what its evaluation needs.
    ``bound(kept, sums, done)`` is the best score that may still come out once the first ``done`` chunks are
    added to ``sums``, and the score itself once all are; it never gets better from chunk to chunk.
    ``arranged(kept)`` is the same fitness with those examples first that decide soonest, judged by these counts, and
    whether they show that bounds hold (bool).
    """

    @property
    def chunk_count(self) -> int: ...

    def kept(self, genome: Array) -> Array: ...

    def prepare(self, kept: Array) -> Any: ...

    def part(self, prepared: Any, index: Array) -> Sums: ...

    def bound(self, kept: Array, sums: Sums, done: Array) -> Score: ...

    def arranged(self, kept: Array) -> tuple[Summed, Array]: ...


class Evaluated(NamedTuple):
    """Scores [P]: a lower bound where a candidate was decided early, +inf where it was not asked or not finite.

    ``work`` float32 [P]: the share of a whole evaluation that was done.
    """

    score: Score
    work: Array


class _Progress(NamedTuple):
    """Of one candidate: the sums so far, and over how many chunks (int32)."""

    sums: Sums
    done: Array


def race(fitness: Fitness, genomes: Array, bar: Score, asked: Array, at_once: int) -> Evaluated:
    """Scores of those genomes [P, G] that are ``asked`` (bool [P]), each until it is certain to miss its bar [P].

    A fitness that is not ``Summed`` is evaluated whole. ``at_once`` 1 runs a loop a candidate; more run rounds of
    one chunk each, in bodies of that many candidates which are filled with survivors.
    """
    if not isinstance(fitness, Summed):
        score = some(partial(scored, fitness), genomes, asked, at_once, worst(len(genomes)))
        return Evaluated(score, asked.astype(jnp.float32))
    # behind the barrier raced and whole evaluation are one program, so that they agree to the last bit
    bar, asked = jax.lax.optimization_barrier((bar, asked))
    kept = jax.vmap(guarded(fitness.kept))(genomes)
    run = _loops if at_once == 1 else partial(_rounds, width=min(at_once, len(genomes)))
    progress = run(fitness, kept, bar, asked)
    score = jax.vmap(fitness.bound)(kept, *progress)
    score = jax.tree.map(partial(jnp.where, asked), or_worst(score), worst(len(genomes)))
    return Evaluated(score, progress.done / fitness.chunk_count)


def _loops(fitness: Summed, kept: Array, bar: Score, asked: Array) -> _Progress:
    """One candidate after the other, each with a loop of its own."""

    def run(candidate: tuple[Array, Score, Array]) -> _Progress:
        kept, bar, asked = candidate
        prepared = guarded(fitness.prepare)(kept)

        def open_still(progress: _Progress) -> Array:
            return asked & _is_open(fitness, kept, bar, progress)

        def add(progress: _Progress) -> _Progress:
            part = guarded(fitness.part)(prepared, progress.done)
            return _Progress(jax.tree.map(jnp.add, progress.sums, part), progress.done + 1)

        return jax.lax.while_loop(open_still, add, _start(()))

    return jax.lax.map(run, (kept, bar, asked))


def _rounds(fitness: Summed, kept: Array, bar: Score, asked: Array, width: int) -> _Progress:
    """A chunk for all who are still in the race, then the next one, in bodies of ``width`` as far as there are some.

    A candidate keeps its lane, the place modulo ``width``, since lanes of one body may round differently: a body
    takes the next survivor of each.
    """
    population = len(kept)
    bodies = -(-population // width)
    kept, bar, asked = jax.tree.map(lambda leaf: _padded(leaf, bodies * width), (kept, bar, asked))
    is_open, lanes = jax.vmap(partial(_is_open, fitness)), jnp.arange(width)

    def round_of(carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
        progress, survivors = carry
        index = jnp.max(jnp.where(survivors, progress.done, 0))
        queues = survivors.reshape(bodies, width)
        order = jnp.argsort(~queues, axis=0)

        def body(number: Array, sums: Sums) -> Sums:
            chosen = order[number] * width + lanes
            part = jax.vmap(lambda kept: guarded(fitness.part)(guarded(fitness.prepare)(kept), index))(kept[chosen])
            return jax.tree.map(lambda total, new: total.at[chosen].set(new), sums, part)

        parts = jax.lax.fori_loop(0, queues.sum(axis=0).max(), body, progress.sums)
        sums = jax.tree.map(lambda total, new: jnp.where(survivors, total + new, total), progress.sums, parts)
        progress = _Progress(sums, progress.done + survivors)
        return progress, survivors & is_open(kept, bar, progress)

    start = _start((bodies * width,))
    end, _ = jax.lax.while_loop(lambda carry: carry[1].any(), round_of, (start, asked & is_open(kept, bar, start)))
    return jax.tree.map(lambda leaf: leaf[:population], end)


def _padded(leaf: Array, length: int) -> Array:
    """Filled up with what is not asked."""
    return jnp.concatenate([leaf, jnp.zeros((length - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def _is_open(fitness: Summed, kept: Array, bar: Score, progress: _Progress) -> Array:
    """Whether a candidate may still be at least as good as its bar, and has chunks left; NaN has lost."""
    value, violation = fitness.bound(kept, *progress)
    least = Score(value - SLACK * jnp.abs(value), jnp.maximum(0.0, violation - SLACK * (1 + violation)))
    return (progress.done < fitness.chunk_count) & better(least, bar)


def _start(shape: tuple[int, ...]) -> _Progress:
    zeros = jnp.zeros(shape, jnp.float32)
    return _Progress(Sums(zeros, zeros, zeros), jnp.zeros(shape, jnp.int32))
