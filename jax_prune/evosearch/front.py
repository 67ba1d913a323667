"""Several objectives at once: GDE3 (Kukkonen and Lampinen 2005) with an archive of all that nothing dominates.

    state = init(key, config, bounds, objectives)
    state, info = step(key, state, config, bounds, objectives)
    found = front(key, config, bounds, objectives)

Trials are differential evolution's; a trial that is no worse in anything takes its parent's place, one that is worse
in everything goes, and where neither holds both stay until ranks and crowding cut the population back to its size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jax_prune import settings
from jax_prune.errors import BadInput
from jax_prune.evosearch import arguments, evolution, fidelity, pareto
from jax_prune.evosearch.algorithms import ALGORITHMS
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.evaluation import as_pytree, failing_in, guarded, lift
from jax_prune.evosearch.pareto import Points
from jax_prune.evosearch.score import real, worst
from jax_prune.evosearch.state import begun
from jax_prune.types import Array, Bounds

# the algorithms that need no candidate's one number; none is the best of a front: there the default is rand1bin
PROPOSERS = {"rand1bin": "rand1bin", "best1bin": "rand1bin", "random": "random"}
ADVICE = "return an array [M] for one candidate [G], or (array [M], violation)"

Objectives = Callable[[Array], Any]  # genome [G] -> values [M], or (values [M], violation)


class State(NamedTuple):
    """What the next generation needs: population [P], archive [A], generations done (int32)."""

    population: Points
    archive: Points
    generation: Array


class Front(NamedTuple):
    """What no other vector seen dominates: ``vectors`` float32 [N, G], ``values`` [N, M], ``violation`` [N].

    In ascending order of the first value, then of the next; NumPy arrays. ``info`` are all vectors as evaluated and
    what they scored, with leading axes [T + 1, P]; NaN reads +inf. ``state`` is the final one.
    """

    vectors: np.ndarray
    values: np.ndarray
    violation: np.ndarray
    state: State
    info: Points


def init(
    key: Array,
    config: Config,
    bounds: Bounds,
    objectives: Objectives,
    *,
    capacity: int = 256,
    start: ArrayLike | None = None,
) -> State:
    """A population as of ``state.begun``, not yet evaluated, and an empty archive of ``capacity`` points.

    Raises BadInput for bounds or a start that do not fit, for objectives that do not give one array [M], for an
    algorithm that needs one number a candidate, for shares of the data, and for a capacity that does not hold the
    extremes.
    """
    if config.algorithm not in PROPOSERS:
        raise BadInput(f"a front cannot be searched by '{config.algorithm}': known are {', '.join(PROPOSERS)}")
    if config.fidelity != fidelity.WHOLE:
        raise BadInput("a front is searched on all data: give fidelity=(1.0,)")
    vectors = begun(key, config, bounds, start)
    values = _judged.eval_shape(as_pytree(objectives), vectors, config.at_once)[0]
    if not settings.fits(capacity, int):
        raise BadInput(f"capacity is {settings.shown(capacity)}: give a whole number")
    if capacity < 2 * values.shape[1]:
        raise BadInput(f"capacity is {capacity}: {values.shape[1]} objectives need at least {2 * values.shape[1]}")
    population, archive = (pareto.empty(size, vectors.shape[1], values.shape[1]) for size in (len(vectors), capacity))
    return State(population._replace(vectors=vectors), archive, jnp.zeros((), jnp.int32))


def step(key: Array, state: State, config: Config, bounds: Bounds, objectives: Objectives) -> tuple[State, Points]:
    """One generation: propose, evaluate, select, archive; and its vectors as scored. Pure; jit and vmap it freely.

    The first step on a state evaluates its initial population.
    """
    parents = state.population
    propose = ALGORITHMS[PROPOSERS[config.algorithm]].propose
    proposed = propose(key, parents.vectors, worst(config.population), (), config, bounds).vectors
    vectors = jnp.where(state.generation == 0, parents.vectors, proposed)
    trials = Points(vectors, *_judged(objectives, vectors, config.at_once))
    archive = pareto.insert(state.archive, trials)
    return State(selected(parents, trials), archive, state.generation + 1), trials


def selected(parents: Points, trials: Points) -> Points:
    """The next population [P] of parents and trials, slot by slot and then by rank and crowding."""
    size, scored = len(parents.violation), pareto.finite(trials)
    replaces = scored & pareto.no_worse(trials, parents)
    joins = scored & ~replaces & ~pareto.no_worse(parents, trials)
    slots = jax.tree.map(lambda new, old: jnp.where(replaces.reshape(-1, *[1] * (new.ndim - 1)), new, old),
                         trials, parents)  # fmt: skip
    pool, among = pareto.join(slots, trials), jnp.concatenate([jnp.ones(size, bool), joins])
    return pareto.take(pool, pareto.fittest(pool, among, size), size)


def front(
    key: Array,
    config: Config,
    bounds: Bounds,
    objectives: Objectives,
    *,
    capacity: int = 256,
    start: ArrayLike | None = None,
    progress: Callable[[int, str], Any] | None = None,
) -> Front:
    """The best trade-offs among ``config.evaluations`` vectors in the box: at most ``capacity``, spread out.

    ``objectives(genome float32 [G]) -> values [M]`` or (values [M], violation) of one candidate, lower is better in
    all, feasible where the violation is 0; see ``evaluation.as_pytree`` for what it may be. Vectors with a value
    that is not finite are never part of it; while nothing feasible was seen it holds the least violations. Compiles
    once for a config, G, and shapes in the objectives; new weights, data, bounds or keys never recompile. A ``scale``
    of (0.2, 0.5) spreads over a front faster than the default, with a ``crossover`` of 0.9 over a network's ratios
    and of 0.2 where entries do not interact. ``start`` and ``progress`` are as in ``evolution.search``. Raises
    BadInput as ``init``, and where the first generation gives no candidate finite values.
    """
    arguments.check(key, config, progress)
    init_key, step_key = jax.random.split(key)
    box, objectives = arguments.box(bounds), as_pytree(objectives)
    state = init(init_key, config, box, objectives, capacity=capacity, start=start)
    length = evolution.chunk_length(config)
    infos = []
    for first in range(0, config.generations + 1, length):
        with failing_in(first, first + length - 1):
            state, info = _generations(step_key, state, config, length, box, objectives)
            infos.append(jax.device_get(info))
        _check_scored(infos[0])
        if progress is not None:
            progress(length, f"front of {int(pareto.finite(state.archive).sum())}")
    info = jax.tree.map(lambda *leaves: np.concatenate(leaves), *infos)
    archive = jax.device_get(state.archive)
    at = _order(archive)
    return Front(archive.vectors[at], archive.values[at], archive.violation[at], state, info)


def compilations() -> int:
    """How many programs ``front`` has compiled in this process so far."""
    return int(_generations._cache_size())  # type: ignore[attr-defined]


def outcome(returned: Any) -> tuple[Array, Array]:
    """What objectives returned for one candidate: values float32 [M] and violation []; +inf where not all are finite.

    Raises BadInput, while being traced, for anything but one real array [M], or a pair of that and a real scalar.
    """
    values, violation = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, 0.0)
    values, violation = real(values, "values", 1, ADVICE), real(violation, "violation", 0, ADVICE)
    scored = jnp.isfinite(values).all() & jnp.isfinite(violation)
    return jnp.where(scored, values, jnp.inf), jnp.where(scored, violation, jnp.inf)


@partial(jax.jit, static_argnames="at_once")
def _judged(objectives: Objectives, vectors: Array, at_once: int) -> tuple[Array, Array]:
    """Values [P, M] and violation [P]; jitted so that asking for M beforehand traces nothing twice."""
    return lift(lambda vector: outcome(guarded(objectives)(vector)), vectors, at_once)


@partial(jax.jit, static_argnames=("config", "length"))
def _generations(
    key: Array, state: State, config: Config, length: int, bounds: Bounds, objectives: Objectives
) -> tuple[State, Points]:
    def body(state: State, _: None) -> tuple[State, Points]:
        return step(jax.random.fold_in(key, state.generation), state, config, bounds, objectives)

    return jax.lax.scan(body, state, length=length)


def _check_scored(info: Points) -> None:
    if not np.isfinite(info.values[0]).any():
        raise BadInput(
            "fitness is NaN or infinite for all candidates of generation 0: "
            "check weights, data and bounds for what makes it so"
        )


def _order(archive: Points) -> np.ndarray:
    """The filled places, by first value, then the next."""
    at = np.lexsort(np.asarray(archive.values).T[::-1])
    return at[np.isfinite(np.asarray(archive.violation)[at])]
