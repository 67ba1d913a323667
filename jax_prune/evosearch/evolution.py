"""The search: one pure step, lifted over a population and repeated; the host looks in between.

    state = init(key, config, bounds)
    state, info = step(key, state, config, bounds, fitness)
    result = search(key, config, bounds, fitness)

Generation 0 is the same step as all others, so a search is one compiled program; ``lshade``, whose slots grow fewer, is
several.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
from jax_prune.evosearch.evaluation import Fitness, as_pytree, evaluated, failing_in
from jax_prune.evosearch.generation import step_of
from jax_prune.evosearch.racing import ONE_DEVICE, Summed
from jax_prune.evosearch.record import LIKE, Info, Look, Record
from jax_prune.evosearch.score import Score, finite
from jax_prune.evosearch.state import State, forgotten, init
from jax_prune.types import Array, Bounds


class Result(NamedTuple):
    """The best vector float32 [G], its score, the final state, and every generation's Info [T, ...]."""

    best: np.ndarray
    score: Score
    state: State
    info: Info


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
    box, fitness = arguments.box(bounds), as_pytree(fitness)
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
            state = forgotten(state, config, judged)
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
            return step_of(jax.random.fold_in(key, part.generation), part, config, bounds, fitness, devices, held)

        part, info = jax.lax.scan(body, slots.narrowed(state, held, algorithm), length=length)
        return slots.widened(part, state, held, algorithm), Look(info, held.slots)

    run_by = run if mesh is None else partial(sharding.on_all, run, mesh)
    return run_by(key, state, bounds, fitness)


def compilations() -> int:
    """How many programs ``search`` has compiled in this process so far."""
    return int(_generations._cache_size())  # type: ignore[attr-defined]


def chunk_length(config: Config) -> int:
    """Generations between two looks: a divisor of their number, so that one program fits all chunks.

    Where the population shrinks any number will do: steps beyond the last generation evaluate nothing.
    """
    total = len(config.sizes)
    most = min(config.chunk, total)
    if len(set(config.sizes)) > 1:
        return most
    return max(length for length in range(1, most + 1) if total % length == 0)


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
