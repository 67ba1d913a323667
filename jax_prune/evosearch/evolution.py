"""The search: one pure step, lifted over a population and repeated; the host looks in between.

    state = init(key, config, bounds)
    state, info = step(key, state, config, bounds, fitness)
    result = search(key, config, bounds, fitness)

Generation 0 is the same step as all others, so a search is one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jax_prune.errors import BadInput
from jax_prune.evosearch import arguments, examples, seen, sharding, slots
from jax_prune.evosearch.algorithms import find
from jax_prune.evosearch.checkpoint import OURS, Keeper, digest
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.duel import Duel, quantiles
from jax_prune.evosearch.evaluation import Fitness, as_pytree, evaluated, failing_in
from jax_prune.evosearch.proposal import Outcome
from jax_prune.evosearch.racing import ONE_DEVICE, Summed, race
from jax_prune.evosearch.record import LIKE, Info, Look, Record
from jax_prune.evosearch.score import Score, better, finite, gain, index_of_best, worst
from jax_prune.evosearch.seen import Seen
from jax_prune.evosearch.sharding import Devices
from jax_prune.evosearch.slots import Held
from jax_prune.evosearch.vectors import inside, latin_hypercube
from jax_prune.types import Array, Bounds

LEARN = 1  # folded into a generation's key for what the algorithm does after its trials were scored


class State(NamedTuple):
    """What the next generation needs: population float32 [P, G], its score [P], generations done (int32)."""

    population: Array
    score: Score
    best: Array  # [G], the best vector so far
    best_score: Score  # its scalars
    generation: Array
    memory: Any  # what the algorithm has learnt: a pytree of arrays
    seen: Seen  # what has been evaluated to its end
    losses: Array  # of the population's chunks [P, N] in a duel, else [P, 0]


class Result(NamedTuple):
    """The best vector float32 [G], its score, the final state, and every generation's Info [T, ...]."""

    best: np.ndarray
    score: Score
    state: State
    info: Info


def init(key: Array, config: Config, bounds: Bounds, start: ArrayLike | None = None) -> State:
    """A population spread over the box (Latin hypercube), not yet evaluated.

    ``start`` [S, G], S <= P, are vectors to begin with in place of the first S; they are clipped to the box.
    Raises BadInput for bounds that cross, are not finite, or differ in shape, and for a start that does not
    fit.
    """
    box = checked(bounds)
    population = _spread(key, config.population, box)
    if start is not None:
        population = _started(population, arguments.floats(start, "start"), box)
    score = worst(config.population)
    best_score = jax.tree.map(lambda leaf: leaf[0], score)
    memory = find(config.algorithm).start(config, population.shape[1])
    remembered = seen.empty(config.evaluations if config.race == "exact" else 0)
    generation, no_losses = jnp.zeros((), jnp.int32), jnp.zeros((config.population, 0), jnp.float32)
    return State(population, score, population[0], best_score, generation, memory, remembered, no_losses)


def step(
    key: Array, state: State, config: Config, bounds: Bounds, fitness: Fitness, devices: Devices = ONE_DEVICE
) -> tuple[State, Info]:
    """One generation: propose, evaluate, keep the better of parent and trial. Pure; jit and vmap it freely.

    The first step on a state, and others of ``config.starts``, where ``search`` forgets all scores, evaluate the
    population itself; several ``devices`` share it out (``sharding.on_all``). One beyond the ``config.sizes`` of an
    algorithm whose population shrinks evaluates nothing and changes neither population nor best. Raises BadInput while
    being traced for a fitness that raises or does not return a scalar.
    """
    return _step(key, state, config, bounds, fitness, devices, slots.everyone(config.population))


def _step(
    key: Array, state: State, config: Config, bounds: Bounds, fitness: Fitness, devices: Devices, held: Held
) -> tuple[State, Info]:
    """``step`` of a state that has the slots ``held`` alone (``slots.narrowed``)."""
    algorithm, first = find(config.algorithm), state.generation == 0
    anew = reduce(or_, [state.generation == start for start in config.starts[1:]], first)
    trials = algorithm.propose(key, state.population, state.score, state.memory, config, bounds)
    vectors = jnp.where(anew, state.population, trials.vectors)
    asked = jnp.ones(len(vectors), bool) if trials.asked is None else anew | trials.asked
    score, exact, work, remembered, losses = _evaluated_among_all(state, vectors, asked, config, fitness, devices, held)
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


def search(
    key: Array,
    config: Config,
    bounds: Bounds,
    fitness: Fitness,
    *,
    start: ArrayLike | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int, str], Any] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Result:
    """The best of ``config.evaluations`` vectors in the box, and all that was seen on the way.

    ``fitness(genome float32 [G]) -> scalar`` or Score, lower is better, of one candidate; see ``evaluation.as_pytree``
    for what it may be. Compiles once for a config, G, share of the data, and shapes in the fitness: new weights, data,
    budgets, bounds or keys never recompile. ``progress(generations, text)`` is called as they end. Raises BadInput for
    bad bounds, a fitness that raises or returns no scalar, and one that gives no candidate of a generation a finite
    score before any other had one; the message names the generation. A fitness that is ``racing.Summed`` has its
    examples arranged anew after the initial candidates, by what the best of them loses most on; under ``config.race``
    "exact" trials are then decided early. Under ``config.fidelity`` early generations are judged by part of its
    chunks; the best is that of the last ones, on all of them. The devices of a ``mesh`` with the axes ("candidates",
    "data") share the evaluation out, and change nothing in what comes out; of several processes all must call this
    alike. What has been found lies in the folder ``checkpoint``, saved at most every ``checkpoint_seconds``: the same
    search, called again after it was killed, goes on there and ends with the same bits (BadInput where the folder
    holds another search's).
    """
    arguments.check(key, config, progress)
    arguments.check_places(mesh, checkpoint, checkpoint_seconds)
    if mesh is not None:
        sharding.checked(mesh)
    if isinstance(fitness, Summed) and jax.tree_util.all_leaves([fitness]):
        raise BadInput(f"fitness {type(fitness).__name__} is no pytree: make it a flax.struct.dataclass")
    init_key, step_key = jax.random.split(key)
    state = init(init_key, config, bounds, start)
    box, fitness = checked(bounds), as_pytree(fitness)
    total = len(config.sizes)
    length = 1 if isinstance(fitness, Summed) else chunk_length(config)
    slots_needed = partial(find(config.algorithm).slots, config)
    record = Record(
        total, config.population, state.population.shape[1], dropped=slots_needed(total - 1) < config.population
    )
    keeper = None
    if checkpoint is not None:
        keeper = Keeper(Path(checkpoint) / OURS, digest(key, config, box, fitness, start), checkpoint_seconds)
        state = _resumed(keeper, state, record)
        _check_same(state, record, fitness)
    done = record.generations
    fitness = examples.ordered(init_key, config, fitness)
    arranged = {first + 1 for first in config.starts}
    if done and progress is not None:
        progress(done, _text(record))
    step_key, box = sharding.everywhere((step_key, box), mesh)
    for first in range(done, total, length):
        if first == done or first in config.starts or first in arranged:
            judged = examples.at(config, fitness, first, record.info)
            placed = sharding.shared_out(judged, mesh)
        if isinstance(judged, Summed) and first in config.starts:
            state = _forgotten(state, config, judged)
        elif first in arranged:
            state = state._replace(seen=seen.empty(len(state.seen.marks)))  # sums are rounded anew
        with failing_in(first, min(first + length, total) - 1):
            state = sharding.everywhere(state, mesh)
            after = _generations(step_key, state, config, length, slots_needed(first), box, placed, mesh)
            state, look = sharding.local(after, mesh)
            look = look.first(total - first)
        look = look._replace(info=_of_all(look.info, judged, fitness))
        record.add(look)
        _check_scored(look.info, first)
        if keeper is not None:
            keeper.save(record.generations, state, look)
        if progress is not None:
            progress(min(length, total - first), _text(record))
    return Result(np.asarray(state.best), jax.device_get(state.best_score), state, record.info)


def checked(bounds: Bounds) -> Bounds:
    """The box as float32 arrays [G]. Raises BadInput where it is crossed, not finite, misshapen, or no numbers."""
    lower, upper = (arguments.floats(side, "a side of the bounds") for side in arguments.pair(bounds))
    if lower.ndim != 1 or lower.shape != upper.shape or not lower.size:
        raise BadInput(f"bounds have shapes {list(lower.shape)} and {list(upper.shape)}: give two arrays [G]")
    bad = ~(np.isfinite(lower) & np.isfinite(upper))
    if bad.any():
        entry = int(np.argmax(bad))
        raise BadInput(f"bounds[{entry}] are {lower[entry]} and {upper[entry]}: give finite numbers")
    if (lower > upper).any():
        entry = int(np.argmax(lower > upper))
        raise BadInput(f"bounds[{entry}] are crossed: lower {lower[entry]:g} is above upper {upper[entry]:g}")
    return Bounds(jnp.asarray(lower), jnp.asarray(upper))


_spread = jax.jit(latin_hypercube, static_argnames="population")


@partial(jax.jit, static_argnames=("config", "length", "count", "mesh"))
def _generations(
    key: Array,
    state: State,
    config: Config,
    length: int,
    count: int,
    bounds: Bounds,
    fitness: Fitness,
    mesh: Mesh | None,
) -> tuple[State, Look]:
    """So many generations of the best ``count`` slots; the state that comes out has all of them."""
    devices = ONE_DEVICE if mesh is None else sharding.devices_of(mesh, isinstance(fitness, Summed))

    algorithm = find(config.algorithm)

    def run(key: Array, state: State, bounds: Bounds, fitness: Fitness) -> tuple[State, Look]:
        held = slots.best(state.score, count)

        def body(part: State, _: None) -> tuple[State, Info]:
            return _step(jax.random.fold_in(key, part.generation), part, config, bounds, fitness, devices, held)

        part, info = jax.lax.scan(body, slots.narrowed(state, held, algorithm), length=length)
        return slots.widened(part, state, held, algorithm), Look(info, held.slots)

    run_by = run if mesh is None else partial(sharding.on_all, run, mesh)
    return run_by(key, state, bounds, fitness)


def compilations() -> int:
    """How many programs ``search`` has compiled in this process so far."""
    return int(_generations._cache_size())  # type: ignore[attr-defined]


def _evaluated_among_all(
    state: State, vectors: Array, asked: Array, config: Config, fitness: Fitness, devices: Devices, held: Held
) -> tuple[Score, Array, Array, Seen, Array]:
    """``_evaluated`` of vectors [S, G]; a race has them where they stand among all slots: lanes round differently."""
    if not isinstance(fitness, Summed):
        return _evaluated(state, vectors, asked, config, fitness, devices)
    bar = jax.tree.map(partial(held.spread, fill=jnp.inf), state.score)
    score, exact, work, remembered, losses = _evaluated(
        state._replace(score=bar), held.spread(vectors), held.spread(asked), config, fitness, devices
    )
    return *jax.tree.map(held.of, (score, exact, work)), remembered, losses


def _evaluated(
    state: State, vectors: Array, asked: Array, config: Config, fitness: Fitness, devices: Devices
) -> tuple[Score, Array, Array, Seen, Array]:
    """Scores [P], whether they are exact [P], the work they took [P], what is remembered, the survivors' losses."""
    at_once = min(config.at_once, config.population)
    pairwise, unbarred = find(config.algorithm).pairwise, worst(len(vectors))
    if config.race == "none" or not isinstance(fitness, Summed) or (config.race == "paired" and not pairwise):
        score, work, _ = race(fitness, vectors, unbarred, asked, at_once, devices)
        return score, asked, work, state.seen, state.losses
    if config.race == "paired":
        duel = Duel(state.losses, jnp.asarray(quantiles(fitness.chunk_count, config.confidence)))
        score, work, losses = race(fitness, vectors, state.score, asked, at_once, devices, duel)
        exact = work == 1
        accepted = exact & better(score, state.score)
        return score, exact, work, state.seen, jnp.where(accepted[:, None], losses, state.losses)
    lanes = jnp.arange(len(vectors)) % at_once  # those of a body may round differently
    marks = seen.marks(jnp.column_stack([jax.vmap(fitness.kept)(vectors), lanes]))
    remembered, found = seen.look_up(state.seen, marks)
    known = found & asked
    bar = state.score if pairwise else unbarred
    score, work, _ = race(fitness, vectors, bar, asked & ~found, at_once, devices)
    exact = known | (work == 1)
    memory = seen.insert(state.seen, marks, score, exact & ~known)
    return _where(known, remembered, score), exact, work, memory, state.losses


def _forgotten(state: State, config: Config, fitness: Summed) -> State:
    """The population without scores, to be judged by this fitness; in a duel with room for the losses of its chunks."""
    score = worst(len(state.population))
    chunks = fitness.chunk_count if config.race == "paired" else 0
    return state._replace(
        score=score,
        best_score=jax.tree.map(lambda leaf: leaf[0], score),
        seen=seen.empty(len(state.seen.marks)),
        losses=jnp.zeros((len(state.population), chunks), jnp.float32),
    )


def _resumed(keeper: Keeper, state: State, record: Record) -> State:
    """The state that a killed search had come to, what it saw until then recorded; ``state`` where it begins."""
    found, looks = keeper.restored(state, LIKE)
    for look in looks:
        record.add(look)
    return jax.tree.map(jnp.asarray, found)


def _of_all(info: Info, judged: Fitness, fitness: Fitness) -> Info:
    """Its work and share as parts of all the data, where it was ``judged`` by part of it."""
    if not isinstance(fitness, Summed):
        return info
    assert isinstance(judged, Summed)
    share = np.float32(judged.chunk_count / fitness.chunk_count)
    return info._replace(work=info.work * share, share=info.share * share)


def _check_same(state: State, record: Record, fitness: Fitness) -> None:
    """Raises BadInput where a resumed search's best has another score now: a name does not tell a function's constants.

    What is ``Summed`` has its arrays in the digest, and sums that depend on the order of examples.
    """
    if not record.generations or isinstance(fitness, Summed):
        return
    (now,) = jax.device_get(evaluated(fitness, state.best[None], 1).value)
    before = float(state.best_score.value)
    if np.isfinite(before) and not np.isclose(now, before, rtol=1e-4, atol=1e-6):
        raise BadInput(
            f"the checkpoint's best scored {before:g} and scores {now:g} now: another fitness, another folder"
        )


def _best(state: State, vectors: Array, score: Score) -> tuple[Array, Score]:
    """The old best or this generation's, where that is finite and better."""
    index = index_of_best(score)
    challenger = jax.tree.map(lambda leaf: leaf[index], score)
    wins = finite(challenger) & better(challenger, state.best_score)
    best = jnp.where(wins, vectors[index], state.best)
    return best, _where(wins, challenger, state.best_score)


def _where(condition: Array, left: Score, right: Score) -> Score:
    return jax.tree.map(partial(jnp.where, condition), left, right)


def _started(population: Array, start: np.ndarray, bounds: Bounds) -> Array:
    if start.ndim != 2 or start.shape[1] != population.shape[1] or start.shape[0] > population.shape[0]:
        raise BadInput(f"start has shape {list(start.shape)}: give at most {list(population.shape)}, [S, G]")
    if not np.isfinite(start).all():
        raise BadInput("start holds NaN or infinite entries: give vectors inside the bounds")
    return population.at[: len(start)].set(inside(jnp.asarray(start), bounds))


def chunk_length(config: Config) -> int:
    """Generations between two looks: a divisor of their number, so that one program fits all chunks.

    Where the population shrinks any number will do: steps beyond the last generation evaluate nothing.
    """
    total = len(config.sizes)
    most = min(config.chunk, total)
    if len(set(config.sizes)) > 1:
        return most
    return max(length for length in range(1, most + 1) if total % length == 0)


def _check_scored(info: Info, first: int) -> None:
    """Raises BadInput where a generation ended with nothing scored since the beginning."""
    nothing = ~np.asarray(finite(Score(*map(jnp.asarray, info.best_score))))
    if nothing.any():
        raise BadInput(
            f"fitness is NaN or infinite for all candidates of generation {first + int(np.argmax(nothing))}: "
            "check weights, data and bounds for what makes it so"
        )


def _text(record: Record) -> str:
    value, violation = (float(leaf[record.generations - 1]) for leaf in record.info.best_score)
    return f"best {value:.6g}" if violation == 0 else f"best {value:.6g}, violation {violation:.3g}"
