"""A round's searches: how many candidates at once within the memory, and what every allocation keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import baselines, evosearch, progress
from jax_prune.plan import SEARCHED, STATIC, Plan
from jax_prune.rounds import Question
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.types import Array, Bounds


def settle(question: Question, plan: Plan, stages: Stages) -> dict[str, Any]:
    """How many candidates at once, and bytes for shared products: once a run, kept as its stage ``probe``.

    The memory plan is printed with it, before the first search. Nothing is settled where nothing is searched.
    """
    if not _searches(question, plan):
        return {"at_once": plan.at_once, "cache": 0}
    return stages("probe", partial(_probe, question, plan)).facts


def find(key: Array, question: Question, plan: Plan, settled: dict[str, Any], stages: Stages, name: str) -> Stage:
    """The round's counts int [G], with every vector and score that its searches saw.

    With ``plan.baselines`` all allocations are scored at the same budget: the question's, or the one that the
    tolerance search found. Without, only what the plan's own allocation needs is searched. All devices that there are
    share a search out; one that is killed goes on from its last checkpoint.
    """
    config = plan.search
    searches = _searches(question, plan)
    width = settled["at_once"]
    fitness, box = _fitness(question, plan, settled["cache"])
    known = {} if question.budget is None or not searches else baselines.unsearched(question, question.budget, STATIC)
    start = _start(key, question, known, box, config.population)
    found, arrays, work, again, missed, audits = {}, {}, {}, {}, {}, {}
    for search in searches:
        algorithm = config.algorithm if search == "de" else search
        settings = dataclasses.replace(config, algorithm=algorithm, at_once=width)
        result = searched(key, settings, box, fitness, start, stages.scratch(f"{name}/search", search))
        best, score = result.best, result.score
        if plan.precision != "float32":
            exact, _ = _fitness(question, dataclasses.replace(plan, precision="float32"))
            chosen = evosearch.rescored(result, fitness, exact, at_once=width)
            best, score, again[search] = chosen.best, chosen.score, _facts(chosen)
        if question.budget is None and score.violation > 0:
            missed[search] = _missed(plan, name, float(score.violation))
        found[search] = np.asarray(fitness.kept(jnp.asarray(best)))
        arrays[search] = evosearch.history.seen(result.info, fitness)
        if width == 1 or len(config.fidelity) > 1:  # a body of several is computed until the last of them is decided
            work[search] = evosearch.history.share_of_work(result.info, early=width == 1)
        if plan.audit and search == "de":
            audits[search] = evosearch.audit(key, settings, fitness, result.info)._asdict()
    budget = int(found["de"].sum()) if question.budget is None else question.budget
    wanted = STATIC if plan.baselines else (plan.allocation,)
    known = known or baselines.unsearched(question, budget, wanted)
    found |= {name: counts for name, counts in known.items() if name in wanted}
    # a tolerance lets each search find a budget of its own: only those of one budget are compared
    compared = {name: counts for name, counts in found.items() if name != "random" or question.budget is not None}
    judged = baselines.judged(question.masked, compared)
    kept = found[plan.allocation]
    facts = {
        "losses": judged.losses,
        "collapsed": judged.collapsed,
        "work": work,
        "audits": audits,
        "precision": plan.precision,
        "rescored": again,
        "missed": missed,
        "budget": budget,
        "at_once": int(width),
        "allocations": {n: [int(k) for k in v] for n, v in found.items()},
    }
    return Stage({"kept": kept.astype(np.int64), **arrays}, facts)


def widest(fitness: Any, genomes: Array, held: evosearch.memory.Memory, at_once: int = 0) -> Stage:
    """How many candidates at once, where not told: a short timing within what is left. Prints the memory plan."""
    timings = () if at_once else evosearch.probe.measure(fitness, genomes, memory_limit=held.left)
    width = at_once or evosearch.probe.fastest(timings)
    body = next((timing.bytes for timing in timings if timing.at_once == width), None)
    held = held._replace(at_once=width, body=body)
    progress.note(evosearch.memory.line(held))
    return Stage({}, {"at_once": width, "timings": [list(timing) for timing in timings], "memory": held._asdict()})


def searched(
    key: Array, config: evosearch.Config, box: Bounds, fitness: Any, start: np.ndarray, checkpoint: Path | None
) -> evosearch.Result:
    """A search with its progress shown, shared out over all devices, that goes on from its last checkpoint."""
    with progress.bar(f"search ({config.algorithm})", len(config.sizes)) as advance:
        return evosearch.search(
            key, config, box, fitness, start=start, mesh=evosearch.sharding.all_devices(), progress=advance,
            checkpoint=checkpoint,
        )  # fmt: skip


def _start(key: Array, question: Question, known: dict[str, np.ndarray], box: Bounds, count: int) -> np.ndarray:
    """First candidates [S, V]: the allocations that need no search, the best first, and what is near that.

    Under a tolerance, which has none of these, what is pruned already: the surest way to an answer.
    """
    if not known:
        return np.asarray(box.lower)[None]
    order = baselines.judged(question.masked, known).order
    genomes = np.stack([evosearch.genome_of(known[name], question.groups) for name in order])
    near = evosearch.around(stage_key(key, "near"), genomes[0], max(count - len(genomes), 0), box)
    return np.concatenate([genomes, np.asarray(near)])[:count]


def _searches(question: Question, plan: Plan) -> list[str]:
    """The searches that a round makes; differential evolution is what finds a tolerance's budget."""
    wanted = SEARCHED if plan.baselines else (plan.allocation, *(["de"] if question.budget is None else []))
    return [name for name in SEARCHED if name in wanted]


def _fitness(question: Question, plan: Plan, cache: int = 0) -> tuple[Any, Bounds]:
    """The fitness that the search minimises, and the box of its genomes; ``cache`` bytes for first-layer products."""
    masked, bounds = question.masked.at_precision(plan.precision), question.bounds
    if cache:
        entries = question.budget if question.cost is None else None
        masked = masked.cached(_affordable(bounds, masked.sizes, entries), cache)
    if question.budget is None:
        assert plan.tolerance is not None
        tolerant = evosearch.tolerance(masked, question.reference, plan.tolerance, bounds)
        return tolerant, tolerant.box
    fitness = evosearch.budget_loss(masked, question.budget, bounds, question.cost)
    return fitness, fitness.box


def _missed(plan: Plan, name: str, violation: float) -> float:
    """By how much the metric of the best candidate is below what a tolerance allows, said aloud."""
    progress.note(
        f"{name.replace('_', ' ')}: no candidate stays within the tolerance of {plan.tolerance:g}; the one that comes "
        f"closest, {violation:.3g} below it, is kept: raise tolerance, loosen lower bounds or tune for longer"
    )
    return violation


def _facts(chosen: evosearch.Rescored) -> dict[str, Any]:
    """How many were scored again, whether another won, and the searched and the exact value of the winner."""
    winner = int((chosen.vectors == chosen.best).all(axis=1).argmax())
    before, after = float(chosen.before.value[winner]), float(chosen.score.value)
    return {"count": len(chosen.vectors), "changed": bool(chosen.changed), "before": before, "after": after}


def _affordable(bounds: Bounds, sizes: Sequence[int], budget: int | None) -> Bounds:
    """The box without what one group alone would exceed the budget by."""
    if budget is None:
        return bounds
    lower = np.maximum(np.asarray(bounds.lower), 1 - budget / np.asarray(sizes)).astype(np.float32)
    return Bounds(np.minimum(lower, np.asarray(bounds.upper)), bounds.upper)


def _probe(question: Question, plan: Plan) -> Stage:
    fitness, box = _fitness(question, plan)
    genomes = jnp.tile(jnp.asarray(box.upper), (plan.search.population, 1))
    copies = evosearch.examples.copies(plan.search)
    held, cache = evosearch.memory.planned(fitness.masked, plan.memory, question.masked, copies), 0
    if jax.default_backend() == "cpu" and evosearch.memory.has_first_product(fitness.masked):
        body = None if plan.at_once else evosearch.probe.body_bytes(fitness, genomes, 1)
        cache = evosearch.memory.room_for_products(held, fitness.masked, body, copies)
        fitness, _ = _fitness(question, plan, cache)
        held = evosearch.memory.planned(fitness.masked, plan.memory, question.masked, copies)
    stage = widest(fitness, genomes, held, plan.at_once)
    return stage._replace(facts={"cache": cache} | stage.facts)
