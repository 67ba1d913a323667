"""One generation: propose, evaluate, keep the better of parent and trial."""

from __future__ import annotations

from functools import partial, reduce
from operator import or_
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.evosearch import seen, slots
from jax_prune.evosearch.algorithms import find
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.duel import Duel, quantiles
from jax_prune.evosearch.evaluation import Fitness
from jax_prune.evosearch.proposal import Outcome
from jax_prune.evosearch.racing import ONE_DEVICE, Summed, race
from jax_prune.evosearch.record import Info
from jax_prune.evosearch.score import Score, better, finite, gain, index_of_best, worst
from jax_prune.evosearch.seen import Seen
from jax_prune.evosearch.sharding import Devices
from jax_prune.evosearch.slots import Held
from jax_prune.evosearch.state import State
from jax_prune.types import Array, Bounds

LEARN = 1  # folded into a generation's key for what the algorithm does after its trials were scored


def step(
    key: Array, state: State, config: Config, bounds: Bounds, fitness: Fitness, devices: Devices = ONE_DEVICE
) -> tuple[State, Info]:
    """One generation: propose, evaluate, keep the better of parent and trial. Pure; jit and vmap it freely.

    The first step on a state, and others of ``config.starts``, where ``search`` forgets all scores, evaluate the
    population itself; several ``devices`` share it out (``sharding.on_all``). One beyond the ``config.sizes`` of an
    algorithm whose population shrinks evaluates nothing and changes neither population nor best. Raises BadInput while
    being traced for a fitness that raises or does not return a scalar.
    """
    return step_of(key, state, config, bounds, fitness, devices, slots.everyone(config.population))


def step_of(
    key: Array, state: State, config: Config, bounds: Bounds, fitness: Fitness, devices: Devices, held: Held
) -> tuple[State, Info]:
    """``step`` of a state that has the slots ``held`` alone (``slots.narrowed``)."""
    algorithm, first = find(config.algorithm), state.generation == 0
    anew = reduce(or_, [state.generation == start for start in config.starts[1:]], first)
    trials = algorithm.propose(key, state.population, state.score, state.memory, config, bounds)
    vectors = jnp.where(anew, state.population, trials.vectors)
    asked = jnp.ones(len(vectors), bool) if trials.asked is None else anew | trials.asked
    score, exact, work, remembered, losses = _among_all(state, vectors, asked, config, fitness, devices, held)
    judged = _where(exact, score, worst(len(vectors)))  # who was decided early has lost, whatever its bound reads
    accepted = better(judged, state.score) & finite(judged)
    population = jnp.where(accepted[:, None], vectors, state.population)
    kept = _where(accepted, judged, state.score)
    best, best_score = _best(state, vectors, judged)
    outcome = Outcome(trials, state.population, accepted, gain(state.score, judged), judged, bounds)
    begun, learnt = (
        told(jax.random.fold_in(key, LEARN), state.memory, outcome, config)
        for told in (algorithm.begin, algorithm.learn)
    )
    memory = jax.tree.map(partial(jnp.where, first), begun, learnt)
    if config.starts[1:]:  # scored anew, a population teaches nothing
        memory = jax.tree.map(partial(jnp.where, anew & ~first), state.memory, memory)
    return (
        State(population, kept, best, best_score, state.generation + asked.any(), memory, remembered, losses),
        Info(vectors, asked, score, accepted, best_score, exact, work, jnp.ones((), jnp.float32)),
    )


class _Judged(NamedTuple):
    """Of vectors [P, G]: scores, whether they are the scores (bool), the share of the work; seen and losses after."""

    score: Score
    exact: Array
    work: Array
    seen: Seen
    losses: Array  # of the survivors' chunks [P, N] in a duel


def _among_all(
    state: State, vectors: Array, asked: Array, config: Config, fitness: Fitness, devices: Devices, held: Held
) -> _Judged:
    """``_judged`` of vectors [S, G]; a race has them where they stand among all slots: lanes round differently."""
    if not isinstance(fitness, Summed):
        return _judged(state, vectors, asked, config, fitness, devices)
    bar = jax.tree.map(partial(held.spread, fill=jnp.inf), state.score)
    judged = _judged(state._replace(score=bar), held.spread(vectors), held.spread(asked), config, fitness, devices)
    score, exact, work = jax.tree.map(held.of, judged[:3])
    return judged._replace(score=score, exact=exact, work=work)


def _judged(state: State, vectors: Array, asked: Array, config: Config, fitness: Fitness, devices: Devices) -> _Judged:
    at_once = min(config.at_once, config.population)
    pairwise, unbarred = find(config.algorithm).pairwise, worst(len(vectors))
    if config.race == "none" or not isinstance(fitness, Summed) or (config.race == "paired" and not pairwise):
        score, work, _ = race(fitness, vectors, unbarred, asked, at_once, devices)
        return _Judged(score, asked, work, state.seen, state.losses)
    if config.race == "paired":
        duel = Duel(state.losses, jnp.asarray(quantiles(fitness.chunk_count, config.confidence)))
        score, work, losses = race(fitness, vectors, state.score, asked, at_once, devices, duel)
        exact = work == 1
        accepted = exact & better(score, state.score)
        return _Judged(score, exact, work, state.seen, jnp.where(accepted[:, None], losses, state.losses))
    lanes = jnp.arange(len(vectors)) % at_once  # those of a body may round differently
    marks = seen.marks(jnp.column_stack([jax.vmap(fitness.kept)(vectors), lanes]))
    remembered, found = seen.look_up(state.seen, marks)
    known = found & asked
    bar = state.score if pairwise else unbarred
    score, work, _ = race(fitness, vectors, bar, asked & ~found, at_once, devices)
    exact = known | (work == 1)
    memory = seen.insert(state.seen, marks, score, exact & ~known)
    return _Judged(_where(known, remembered, score), exact, work, memory, state.losses)


def _best(state: State, vectors: Array, score: Score) -> tuple[Array, Score]:
    """The old best or this generation's, where that is finite and better."""
    index = index_of_best(score)
    challenger = jax.tree.map(lambda leaf: leaf[index], score)
    wins = finite(challenger) & better(challenger, state.best_score)
    best = jnp.where(wins, vectors[index], state.best)
    return best, _where(wins, challenger, state.best_score)


def _where(condition: Array, left: Score, right: Score) -> Score:
    return jax.tree.map(partial(jnp.where, condition), left, right)
