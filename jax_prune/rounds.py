"""The verbs of one round of pruning: ask (rank), sweep (bound), tune; ``searching`` has find between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import evosearch, learning
from jax_prune.evosearch import MaskedLoss
from jax_prune.learning import Recovery
from jax_prune.lesson import Lesson
from jax_prune.plan import Plan
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import masks as masking
from jax_prune.pruning import recovery, scores
from jax_prune.pruning.budgets import Cost
from jax_prune.stages import Stage
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
    swept: tuple[np.ndarray, np.ndarray] | None = None  # ratios [K], and the loss [G, K] with one group alone at them

    @property
    def net(self) -> Net:
        return self.masked.net

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.masked.groups

    def within(self, sensitivity: Stage) -> Question:
        """The same question inside the box that the sweeps gave, and with their curves."""
        found = sensitivity.arrays
        return self._replace(bounds=Bounds(found["lower"], found["upper"]), swept=(found["ratios"], found["loss"]))


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
        recalibration=few(sample.x),
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


def tune(key: Array, question: Question, kept: np.ndarray, lesson: Lesson, plan: Plan, steps: int, name: str) -> Stage:
    """Masks the net and trains what is left; removed connections may return until the masks freeze."""
    net, groups = question.net, question.groups
    before, params = _pruned(net.params, groups, question.masked.ranks, jnp.asarray(kept))
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
    found = evosearch.recalibration.recalibration(net, few(sample.x))
    return net if found is None else net.replace(state=found(net.params, net.state))


def few(inputs: Tree) -> Tree:
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


@partial(jax.jit, static_argnums=1)
def _pruned(params: Tree, groups: tuple[Group, ...], ranks: Sequence[Array], kept: Array) -> tuple[Masks, Tree]:
    """Masks, and the parameters under them."""
    masks = masking.from_kept(params, groups, ranks, kept)
    return masks, masking.apply(params, masks)


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
