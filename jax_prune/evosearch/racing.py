"""Early decisions: a trial that cannot win any more, or hardly, is not evaluated to its end.

Exact: where losses are never negative their running sum only grows, so a trial has lost for certain once the sum so
far is above its parent's total; where a part of the score is known beforehand it may have lost before it began. The
populations are those of full evaluation.

Paired: a race by confidence (Maron and Moore 1994) between a trial and its parent on the same chunks of examples,
see ``duel``. A trial that is better may be lost, with a stated probability.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jax_prune.evosearch.duel import Duel, given_up, predicted
from jax_prune.evosearch.evaluation import Fitness, guarded, scored, some
from jax_prune.evosearch.score import Score, better, finite, or_worst, worst
from jax_prune.evosearch.sharding import Devices
from jax_prune.types import Array

RACES = ("exact", "paired", "none")
ONE_DEVICE = Devices()
SLACK = 1e-6  # a loop and what follows it may round the same expression differently: ties are not decided early


class Sums(NamedTuple):
    """Sums over examples of loss and metric: float32 scalars, or [P] for a population."""

    loss: Array
    metric: Array
    varying: Array  # chunks with outputs that differ from one example's: none where the network has collapsed


@runtime_checkable
class Summed(Protocol):
    """A fitness that is known in part, and for the rest a sum over ``chunk_count`` chunks of examples.

    ``kept(genome [G])`` is what a genome stands for, int32 [G], and ``prepare(kept)`` what its evaluation needs.
    ``bound(kept, sums, done)`` is the best score that may still come out once the first ``done`` chunks are
    added to ``sums``, and the score itself once all are; it never gets better from chunk to chunk.
    ``arranged(kept)`` is the same fitness with those examples first that decide soonest, judged by these counts, and
    whether they show that bounds hold (bool). ``shuffled(key)`` has them in random order; ``shortened(count)`` has the
    first ``count`` chunks alone. ``is_mean``: the value is the sum of losses over a constant, and nothing is violated,
    so that a duel over losses decides.
    """

    @property
    def is_mean(self) -> bool: ...

    @property
    def chunk_count(self) -> int: ...

    def kept(self, genome: Array) -> Array: ...

    def prepare(self, kept: Array) -> Any: ...

    def part(self, prepared: Any, index: Array) -> Sums: ...

    def bound(self, kept: Array, sums: Sums, done: Array) -> Score: ...

    def arranged(self, kept: Array) -> tuple[Summed, Array]: ...

    def shuffled(self, key: Array) -> Summed: ...

    def shortened(self, count: int) -> Summed: ...


class Evaluated(NamedTuple):
    """Scores [P]: a lower bound where a candidate was decided early, +inf where it was not asked or not finite.

    ``work`` float32 [P]: the share of a whole evaluation that was needed; a body of several computes until its last
    candidate is decided. ``losses`` [P, N] of every chunk in a duel.
    """

    score: Score
    work: Array
    losses: Array


class _Progress(NamedTuple):
    """Of one candidate: the sums so far, over how many chunks (int32), and the losses of each [N] in a duel."""

    sums: Sums
    done: Array
    losses: Array


def race(
    fitness: Fitness,
    genomes: Array,
    bar: Score,
    asked: Array,
    at_once: int,
    devices: Devices = ONE_DEVICE,
    duel: Duel | None = None,
) -> Evaluated:
    """Scores of those genomes [P, G] that are ``asked`` (bool [P]), each until it is certain to miss its bar [P].

    In a ``duel`` also until it is most likely to, and then its score is what is expected. A fitness that is not
    ``Summed`` is evaluated whole. ``at_once`` 1 runs a loop a candidate; more run rounds of one chunk each, in bodies
    of that many candidates which are filled with survivors. Several ``devices`` share out candidates or bodies, and
    look at that many chunks before they decide, one after the other.
    """
    population = len(genomes)
    # behind the barrier raced and whole evaluation are one program, so that they agree to the last bit
    bar, asked = jax.lax.optimization_barrier((bar, asked))
    if not isinstance(fitness, Summed):
        score = some(partial(scored, fitness), genomes, asked, at_once, worst(population), devices)
        return Evaluated(score, asked.astype(jnp.float32), jnp.zeros((population, 0)))
    kept = jax.vmap(guarded(fitness.kept))(genomes)
    against = jnp.zeros((population, 0)) if duel is None else duel.losses
    field = _Field(kept, bar, asked, against)
    quantiles = None if duel is None else duel.quantiles
    run = _loops if at_once == 1 else partial(_rounds, width=min(at_once, population))
    progress = run(fitness, field, quantiles, devices)
    sums = progress.sums
    if duel is not None:
        expected = jax.vmap(predicted)(progress.losses, against, progress.done)
        known = progress.done == fitness.chunk_count
        sums = sums._replace(loss=jnp.where(known, sums.loss, expected))
    # one by one: by a scalar XLA divides a vector, or multiplies it with the inverse, as the context happens to be
    score = jax.lax.map(lambda candidate: fitness.bound(*candidate), (kept, sums, progress.done))
    score = jax.tree.map(partial(jnp.where, asked), or_worst(score), worst(population))
    return Evaluated(score, progress.done / fitness.chunk_count, progress.losses)


class _Field(NamedTuple):
    """Who runs, of one candidate or with leading axis [P]: counts [G], bar, whether asked, the parent's losses [N]."""

    kept: Array
    bar: Score
    asked: Array
    against: Array


def _loops(fitness: Summed, field: _Field, quantiles: Array | None, devices: Devices) -> _Progress:
    """One candidate after the other, each with a loop of its own."""
    row, column = devices.place()
    population, chunks = field.against.shape
    share = -(-population // devices.candidates)
    padded = jax.tree.map(lambda leaf: _padded(leaf, share * devices.candidates), field)

    def run(one: _Field) -> _Progress:
        start = _start((), chunks)

        def open_still(progress: _Progress) -> Array:
            return one.asked & _is_open(fitness, quantiles, one, progress)

        def nothing() -> Any:
            shapes = jax.eval_shape(fitness.prepare, one.kept)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        prepared = jax.lax.cond(open_still(start), lambda: guarded(fitness.prepare)(one.kept), nothing)

        def add(progress: _Progress) -> _Progress:
            parts = devices.along_data(guarded(fitness.part)(prepared, progress.done + column))
            return _added(progress, parts, jnp.ones((), bool), open_still)[0]

        return jax.lax.while_loop(open_still, add, start)

    mine = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row * share, share), padded)
    ends = devices.gathered(jax.lax.map(run, mine))
    return jax.tree.map(lambda leaf: jnp.concatenate(leaf[:, 0])[:population], ends)


def _rounds(fitness: Summed, field: _Field, quantiles: Array | None, devices: Devices, width: int) -> _Progress:
    """A chunk for all who are still in the race, then the next one, in bodies of ``width`` as far as there are some.

    A candidate keeps its lane, the place modulo ``width``, since lanes of one body may round differently: a body
    takes the next survivor of each.
    """
    row, column = devices.place()
    population, chunks = field.against.shape
    bodies = -(-population // width)
    field = jax.tree.map(lambda leaf: _padded(leaf, bodies * width), field)
    is_open, lanes = jax.vmap(partial(_is_open, fitness, quantiles)), jnp.arange(width)

    def round_of(carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
        progress, survivors = carry
        index = jnp.max(jnp.where(survivors, progress.done, 0)) + column
        queues = survivors.reshape(bodies, width)
        order = jnp.argsort(~queues, axis=0)

        def part_of(kept: Array) -> Sums:
            return guarded(fitness.part)(guarded(fitness.prepare)(kept), index)

        def body(turn: Array, parts: Sums) -> Sums:
            chosen = order[turn * devices.candidates + row] * width + lanes
            part = jax.vmap(part_of)(field.kept[chosen])
            return jax.tree.map(lambda all_, new: all_.at[chosen].set(new), parts, part)

        parts = jax.lax.fori_loop(0, devices.turns(queues.sum(axis=0).max()), body, progress.sums)
        owner = jnp.argsort(order, axis=0).reshape(-1) % devices.candidates
        return _added(progress, devices.picked(parts, owner), survivors, partial(is_open, field))

    start = _start((bodies * width,), chunks)
    end, _ = jax.lax.while_loop(lambda carry: carry[1].any(), round_of, (start, field.asked & is_open(field, start)))
    return jax.tree.map(lambda leaf: leaf[:population], end)


def _added(
    progress: _Progress, parts: Sums, survivors: Array, is_open: Callable[[_Progress], Array]
) -> tuple[_Progress, Array]:
    """With the ``parts`` [D, ...] of the next D chunks, one after the other, of those who are open until then."""
    for number in range(len(parts.loss)):
        part = jax.tree.map(lambda leaf, number=number: leaf[number], parts)
        sums = jax.tree.map(lambda total, new, on=survivors: jnp.where(on, total + new, total), progress.sums, part)
        losses = progress.losses
        if losses.shape[-1]:
            here = (jnp.arange(losses.shape[-1]) == progress.done[..., None]) & survivors[..., None]
            losses = jnp.where(here, part.loss[..., None], losses)
        progress = _Progress(sums, progress.done + survivors, losses)
        survivors = survivors & is_open(progress)
    return progress, survivors


def _padded(leaf: Array, length: int) -> Array:
    """Filled up with what is not asked."""
    return jnp.concatenate([leaf, jnp.zeros((length - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def _is_open(fitness: Summed, quantiles: Array | None, one: _Field, progress: _Progress) -> Array:
    """Whether a candidate may still be at least as good as its bar, and has chunks left; NaN has lost."""
    value, violation = fitness.bound(one.kept, progress.sums, progress.done)
    least = Score(value - SLACK * jnp.abs(value), jnp.maximum(0.0, violation - SLACK * (1 + violation)))
    is_open = (progress.done < fitness.chunk_count) & better(least, one.bar)
    if quantiles is None:
        return is_open
    # by their losses only feasible candidates compare
    compared = finite(one.bar) & (one.bar.violation == 0)
    return is_open & ~(compared & given_up(progress.losses, one.against, quantiles, progress.done))


def _start(shape: tuple[int, ...], chunks: int) -> _Progress:
    """Nothing added yet; losses are noted for ``chunks``: all or none."""
    zeros = jnp.zeros(shape, jnp.float32)
    return _Progress(Sums(zeros, zeros, zeros), zeros.astype(jnp.int32), jnp.zeros((*shape, chunks), jnp.float32))
