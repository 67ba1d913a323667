"""The verbs of one round of pruning: ask (rank), sweep (bound), find (search), tune."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import baselines, evosearch, learning, progress
from jax_prune.evosearch import MaskedLoss
from jax_prune.learning import Recovery
from jax_prune.lesson import Lesson
from jax_prune.plan import SEARCHED, STATIC, Plan
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import masks as masking
from jax_prune.pruning import recovery, scores
from jax_prune.pruning.budgets import Cost
from jax_prune.stages import Stage, Stages
from jax_prune.types import Array, Batch, Bounds, Group, Masks, Net, Tree

SWEEP = np.array([*np.linspace(0.0, 0.9, 7), 0.95, 0.97, 0.985, 0.995], np.float32)
STATISTICS = 250  # examples over which a candidate's batch statistics are taken
GAMMA = 1e-3  # hysteresis: a layer's masks change with probability 1 / (1 + GAMMA * step)


class Question(NamedTuple):
    """One round's question: the net as it is, who ranks where, within which box, at which budget."""

    masked: MaskedLoss
    scores: tuple[Array, ...]  # float32 [n_g]
    bounds: Bounds  # of the ratios
    budget: int | None
    cost: Cost | None  # what the budget counts, where not entries one by one
    reference: float  # the trained net's metric on the calibration data

    @property
    def net(self) -> Net:
        return self.masked.net

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.masked.groups

    def within(self, sensitivity: Stage) -> Question:
        """The same question inside the box that the sweeps gave."""
        return self._replace(bounds=Bounds(sensitivity.arrays["lower"], sensitivity.arrays["upper"]))


def ask(
    key: Array,
    net: Net,
    groups: tuple[Group, ...],
    before: np.ndarray,
    sample: Batch,
    lesson: Lesson,
    plan: Plan,
    budget: int | None,
    cost: Cost | None,
    reference: float,
) -> Question:
    """Ranks the entries of every group, once a round; a group may not grow beyond ``before`` int [G]."""
    score = _scores(key, net, groups, lesson, plan.score)
    box = _shrinking(grouping.bounds(groups, plan.rules), before, grouping.sizes(groups))
    masked = evosearch.masked_loss(
        net, groups, masking.ranks(score, groups), sample, lesson.plain_loss, lesson.metric,
        recalibration=_few(sample.x),
    )  # fmt: skip
    evosearch.memory.planned(masked, plan.memory)  # says whether the data fits
    return Question(masked, score, box, budget, cost, reference)


def sweep(question: Question, plan: Plan) -> Stage:
    """One-layer sweeps, and the box that they leave: curves [G, K], bounds [G]."""
    found = evosearch.sensitivity.curves(question.masked, SWEEP)
    budget, cost = question.budget, question.cost
    if budget is not None:
        evosearch.budget_loss(question.masked, budget, question.bounds, cost)  # says whether it can be met
    box = evosearch.sensitivity.bounds(found, plan.sensitivity, question.bounds, question.groups, budget, cost)
    arrays = {"ratios": found.ratios, "loss": found.loss, "metric": found.metric}
    return Stage(arrays | {"lower": box.lower, "upper": box.upper}, {"limit": plan.sensitivity})


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
    # what is pruned already is the surest way to meet a tolerance: it is among the first candidates
    start = np.asarray(box.lower)[None] if question.budget is None else None
    found, arrays, work, again = {}, {}, {}, {}
    for search in searches:
        algorithm = config.algorithm if search == "de" else search
        settings = dataclasses.replace(config, algorithm=algorithm, at_once=width)
        with progress.bar(f"search ({algorithm})", len(settings.sizes)) as advance:
            result = evosearch.search(
                key, settings, box, fitness, start=start, mesh=evosearch.sharding.all_devices(), progress=advance,
                checkpoint=stages.scratch(f"{name}/search", search),
            )  # fmt: skip
        best = result.best
        if plan.precision != "float32":
            exact, _ = _fitness(question, dataclasses.replace(plan, precision="float32"))
            chosen = evosearch.rescored(result, fitness, exact, at_once=width)
            best, again[search] = chosen.best, _facts(chosen)
        found[search] = np.asarray(fitness.kept(jnp.asarray(best)))
        arrays[search] = evosearch.history.seen(result.info, fitness)
        if width == 1:  # a body of several is computed until the last of them is decided
            work[search] = float(result.info.work.sum() / result.info.evaluated.sum())
    budget = int(found["de"].sum()) if question.budget is None else question.budget
    found |= baselines.unsearched(question, budget, STATIC if plan.baselines else (plan.allocation,))
    # a tolerance lets each search find a budget of its own: only those of one budget are compared
    compared = {name: counts for name, counts in found.items() if name != "random" or question.budget is not None}
    judged = baselines.judged(question.masked, compared)
    kept = found[plan.allocation]
    facts = {
        "losses": judged.losses,
        "collapsed": judged.collapsed,
        "work": work,
        "precision": plan.precision,
        "rescored": again,
        "budget": budget,
        "at_once": int(width),
        "allocations": {n: [int(k) for k in v] for n, v in found.items()},
    }
    return Stage({"kept": kept.astype(np.int64), **arrays}, facts)


def tune(key: Array, question: Question, kept: np.ndarray, lesson: Lesson, plan: Plan, steps: int, name: str) -> Stage:
    """Masks the net and trains what is left; removed connections may return until the masks freeze."""
    net, groups = question.net, question.groups
    before = masking.from_kept(net.params, groups, question.masked.ranks, jnp.asarray(kept))
    params = masking.apply(net.params, before)
    net = net.replace(params=params, state=question.masked.state_of(params))
    (metric_before,) = learning.evaluate(net, lesson.validation, lesson.metric)
    trained = learning.train(
        key,
        net,
        lesson.data,
        plan.recipe,
        loss=lesson.loss,
        teacher=lesson.teacher,
        steps=steps,
        masks=before,
        recovery=_recovery(plan, net.params, groups, jnp.asarray(kept)),
        title=f"{name.replace('_', ' ')}: tune",
    )
    (metric_after,) = learning.evaluate(trained.net, lesson.validation, lesson.metric)
    return Stage(
        {"params": trained.net.params, "state": trained.net.state, "masks": trained.masks},
        {
            "validation_before": metric_before,
            "validation": metric_after,
            "losses": [float(value) for value in trained.losses],
            "returned": [int(count) for count in recovery.returned(before, trained.masks, groups)],
            "steps": learning.chunks_of(steps) * learning.CHUNK,
        },
    )


def judged_as_candidates(net: Net, sample: Batch) -> Net:
    """The net with batch statistics taken anew as every candidate's are, so that both are measured alike."""
    found = evosearch.recalibration.recalibration(net, _few(sample.x))
    return net if found is None else net.replace(state=found(net.params, net.state))


def _few(inputs: Tree) -> Tree:
    """The examples over which batch statistics are taken, at random: data may be sorted."""
    order = np.random.default_rng(0).permutation(len(jax.tree.leaves(inputs)[0]))[:STATISTICS]
    return jax.tree.map(lambda leaf: leaf[np.sort(order)], inputs)


def _shrinking(allowed: Bounds, before: np.ndarray, sizes: np.ndarray) -> Bounds:
    """The allowed ratios [G], raised so that no group keeps more than ``before``; float32 is rounded up for it."""
    lower = (1 - before / sizes).astype(np.float32)
    grown = sizes - np.floor(lower.astype(np.float64) * sizes) > before
    lower = np.maximum(np.where(grown, np.nextafter(lower, np.float32(2)), lower), np.asarray(allowed.lower))
    return Bounds(lower, np.maximum(lower, np.asarray(allowed.upper)))


def _scores(key: Array, net: Net, groups: tuple[Group, ...], lesson: Lesson, kind: str) -> tuple[Array, ...]:
    if kind == "magnitude":
        return scores.magnitude(net.params, groups)
    if kind == "random":
        return scores.random(key, groups)
    moments = learning.moments(key, net, lesson.data, lesson.plain_loss)
    if kind == "taylor":
        return scores.taylor(net.params, moments.mean, groups)
    return scores.fisher(net.params, moments.square, groups)


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
    held, cache = evosearch.memory.planned(fitness.masked, plan.memory, question.masked), 0
    if jax.default_backend() == "cpu" and evosearch.memory.has_first_product(fitness.masked):
        body = None if plan.at_once else evosearch.probe.body_bytes(fitness, genomes, 1)
        cache = evosearch.memory.room_for_products(held, fitness.masked, body)
        fitness, _ = _fitness(question, plan, cache)
        held = evosearch.memory.planned(fitness.masked, plan.memory, question.masked)
    timings = () if plan.at_once else evosearch.probe.measure(fitness, genomes, memory_limit=held.left)
    width = plan.at_once or evosearch.probe.fastest(timings)
    body = next((timing.bytes for timing in timings if timing.at_once == width), None)
    held = held._replace(at_once=width, body=body)
    progress.note(evosearch.memory.line(held))
    timed = [list(timing) for timing in timings]
    return Stage({}, {"at_once": width, "cache": cache, "timings": timed, "memory": held._asdict()})


def _recovery(plan: Plan, params: Tree, groups: tuple[Group, ...], kept: Array) -> Recovery | None:
    if plan.recovery == "none" or plan.score == "random":  # a return by rank would make random masks ranked ones
        return None
    thresholds = recovery.thresholds(params, groups, kept)

    def choose(params: Tree, square: Tree) -> Masks:
        return _choose(groups, plan.score, params, square, kept)

    def update(key: Array, step: int, params: Tree, square: Tree, masks: Masks) -> Masks:
        if plan.recovery == "topk":
            return choose(params, square)
        probability = 1 / (1 + GAMMA * step)
        return recovery.hysteresis(key, params, masks, groups, thresholds, jnp.float32(probability))

    return Recovery(update, choose, plan.recovery_until, plan.recovery_rate)


@partial(jax.jit, static_argnums=(0, 1))
def _choose(groups: tuple[Group, ...], score: str, params: Tree, square: Tree, kept: Array) -> Masks:
    by_slope = score in ("fisher", "taylor")
    values = scores.fisher(params, square, groups) if by_slope else scores.magnitude(params, groups)
    return recovery.reselect(params, values, groups, kept)
