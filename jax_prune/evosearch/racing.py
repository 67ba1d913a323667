"""Early decisions that change nothing: a trial that cannot win any more is not evaluated to its end.

Where losses are never negative their running sum only grows, so a trial has lost for certain once the sum so far
is above its parent's total; where a part of the score is known beforehand it may have lost before it began. Races
over chunks of examples decide by confidence (Maron and Moore 1994); here nothing is left to chance, and the
populations are those of full evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jax_prune.evosearch.evaluation import Fitness, guarded, scored, some
from jax_prune.evosearch.score import Score, better, or_worst, worst
from jax_prune.evosearch.sharding import Devices
from jax_prune.types import Array

RACES = ("exact", "none")
ONE_DEVICE = Devices()
SLACK = 1e-6  # a loop and what follows it may round the same expression differently: ties are not decided early


class Sums(NamedTuple):
    """Sums over examples of loss and metric: float32 scalars, or [P] for a population."""

    loss: Array
    metric: Array


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


def race(
    fitness: Fitness, genomes: Array, bar: Score, asked: Array, at_once: int, devices: Devices = ONE_DEVICE
) -> Evaluated:
    """Scores of those genomes [P, G] that are ``asked`` (bool [P]), each until it is certain to miss its bar [P].

    A fitness that is not ``Summed`` is evaluated whole. ``at_once`` 1 runs a loop a candidate; more run rounds of
    one chunk each, in bodies of that many candidates which are filled with survivors. Several ``devices`` share out
    candidates or bodies, and look at that many chunks before they decide, one after the other.
    """
    # behind the barrier raced and whole evaluation are one program, so that they agree to the last bit
    bar, asked = jax.lax.optimization_barrier((bar, asked))
    if not isinstance(fitness, Summed):
        score = some(partial(scored, fitness), genomes, asked, at_once, worst(len(genomes)), devices)
        return Evaluated(score, asked.astype(jnp.float32))
    kept = jax.vmap(guarded(fitness.kept))(genomes)
    run = _loops if at_once == 1 else partial(_rounds, width=min(at_once, len(genomes)))
    progress = run(fitness, kept, bar, asked, devices)
    # one by one: by a scalar XLA divides a vector, or multiplies it with the inverse, as the context happens to be
    score = jax.lax.map(lambda candidate: fitness.bound(candidate[0], *candidate[1]), (kept, progress))
    score = jax.tree.map(partial(jnp.where, asked), or_worst(score), worst(len(genomes)))
    return Evaluated(score, progress.done / fitness.chunk_count)


def _loops(fitness: Summed, kept: Array, bar: Score, asked: Array, devices: Devices) -> _Progress:
    """One candidate after the other, each with a loop of its own."""
    row, column = devices.place()
    population = len(kept)
    share = -(-population // devices.candidates)
    candidates = jax.tree.map(lambda leaf: _padded(leaf, share * devices.candidates), (kept, bar, asked))

    def run(candidate: tuple[Array, Score, Array]) -> _Progress:
        kept, bar, asked = candidate
        prepared = guarded(fitness.prepare)(kept)

        def open_still(progress: _Progress) -> Array:
            return asked & _is_open(fitness, kept, bar, progress)

        def add(progress: _Progress) -> _Progress:
            parts = devices.along_data(guarded(fitness.part)(prepared, progress.done + column))
            return _added(progress, parts, jnp.ones((), bool), open_still)[0]

        return jax.lax.while_loop(open_still, add, _start(()))

    mine = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row * share, share), candidates)
    ends = devices.gathered(jax.lax.map(run, mine))
    return jax.tree.map(lambda leaf: leaf[:, 0].reshape(-1)[:population], ends)


def _rounds(fitness: Summed, kept: Array, bar: Score, asked: Array, devices: Devices, width: int) -> _Progress:
    """A chunk for all who are still in the race, then the next one, in bodies of ``width`` as far as there are some.

    A candidate keeps its lane, the place modulo ``width``, since lanes of one body may round differently: a body
    takes the next survivor of each.
    """
    row, column = devices.place()
    population = len(kept)
    bodies = -(-population // width)
    kept, bar, asked = jax.tree.map(lambda leaf: _padded(leaf, bodies * width), (kept, bar, asked))
    is_open, lanes = jax.vmap(partial(_is_open, fitness)), jnp.arange(width)

    def round_of(carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
        progress, survivors = carry
        index = jnp.max(jnp.where(survivors, progress.done, 0)) + column
        queues = survivors.reshape(bodies, width)
        order = jnp.argsort(~queues, axis=0)

        def body(turn: Array, sums: Sums) -> Sums:
            chosen = order[turn * devices.candidates + row] * width + lanes
            part = jax.vmap(lambda kept: guarded(fitness.part)(guarded(fitness.prepare)(kept), index))(kept[chosen])
            return jax.tree.map(lambda total, new: total.at[chosen].set(new), sums, part)

        parts = jax.lax.fori_loop(0, devices.turns(queues.sum(axis=0).max()), body, progress.sums)
        owner = jnp.argsort(order, axis=0).reshape(-1) % devices.candidates
        return _added(progress, devices.picked(parts, owner), survivors, partial(is_open, kept, bar))

    start = _start((bodies * width,))
    end, _ = jax.lax.while_loop(lambda carry: carry[1].any(), round_of, (start, asked & is_open(kept, bar, start)))
    return jax.tree.map(lambda leaf: leaf[:population], end)


def _added(
    progress: _Progress, parts: Sums, survivors: Array, is_open: Callable[[_Progress], Array]
) -> tuple[_Progress, Array]:
    """With the ``parts`` [D, ...] of the next D chunks, one after the other, of those who are open until then."""
    for number in range(len(parts.loss)):
        sums = Sums(*(jnp.where(survivors, s + p[number], s) for s, p in zip(progress.sums, parts, strict=True)))
        progress = _Progress(sums, progress.done + survivors)
        survivors = survivors & is_open(progress)
    return progress, survivors


def _padded(leaf: Array, length: int) -> Array:
    """Filled up with what is not asked."""
    return jnp.concatenate([leaf, jnp.zeros((length - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def _is_open(fitness: Summed, kept: Array, bar: Score, progress: _Progress) -> Array:
    """Whether a candidate may still be at least as good as its bar, and has chunks left; NaN has lost."""
    value, violation = fitness.bound(kept, *progress)
    least = Score(value - SLACK * jnp.abs(value), jnp.maximum(0.0, violation - SLACK * (1 + violation)))
    return (progress.done < fitness.chunk_count) & better(least, bar)


def _start(shape: tuple[int, ...]) -> _Progress:
    return _Progress(Sums(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)), jnp.zeros(shape, jnp.int32))
