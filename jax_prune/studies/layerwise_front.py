"""The trade-off of ``layerwise``: error against parameters and MACs that the dense net offers before any tuning."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import baselines, datasets, evosearch, learning, progress
from jax_prune import report as reporting
from jax_prune.compress import calibration_sample
from jax_prune.evosearch import MaskedLoss
from jax_prune.lesson import Lesson
from jax_prune.plan import Plan, checked
from jax_prune.pruning import costs, lattice, masks
from jax_prune.pruning import groups as grouping
from jax_prune.rounds import Question, ask
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.types import Array, Net

CAPACITY = 100  # points that a report shows
FARTHEST = 64  # the most compression that the search starts from
SCALE = (0.2, 0.5)  # F: beat (0.5, 1) by hypervolume on every problem that tests/evosearch/test_front.py has


def trade_off(
    key: Array, generations: int, plan: Plan, dense: Net, splits: datasets.Splits, stages: Stages
) -> Stage | None:
    """The stage ``trade_off``: the front of the trained dense net after so many ``generations``; None for 0 of them.

    Its facts hold ``points`` and ``dense``, see ``report.TradeOff``; its arrays every vector tried [T + 1, P, G], what
    it scored, and the front's. Ranks, rules, population and number at once are the plan's.
    """
    if not generations:
        return None
    return stages("trade_off", partial(_find, stage_key(key, "trade_off"), key, generations, plan, dense, splits))


def section(stage: Stage | None) -> reporting.TradeOff | None:
    """The stage's facts as the report has them."""
    if stage is None:
        return None
    points = tuple(_reported(point) for point in stage.facts["points"])
    return reporting.TradeOff(points, _reported(stage.facts["dense"]), **stage.facts["settings"])


def _find(key: Array, run_key: Array, generations: int, plan: Plan, dense: Net, splits: datasets.Splits) -> Stage:
    rank_key, search_key = jax.random.split(key)
    groups = checked(plan, dense, splits.train.x[:1])
    sizes = grouping.sizes(groups)
    lesson = Lesson.of(dense, splits.train, splits.validation, plan, learning.cross_entropy, learning.correct)
    sample = calibration_sample(stage_key(run_key, "calibration"), splits.train, plan.calibration)
    question = ask(rank_key, dense, groups, sizes, sample, lesson, plan, None, None, 1.0)
    masked = question.masked
    # packed bytes follow from what is kept of each leaf: as an objective they would hold back nothing but the search
    prices: list[evosearch.Cost] = [evosearch.kept_parameters(masked), evosearch.kept_macs(masked)]
    objectives = evosearch.trade_off(masked, prices, question.bounds, by_metric=True)
    config = dataclasses.replace(
        plan.search,
        algorithm="rand1bin",
        generations=generations,
        scale=SCALE,
        at_once=max(plan.at_once, 1),
        fidelity=evosearch.fidelity.WHOLE,
    )
    with progress.bar("trade-off", generations + 1) as advance:
        found = evosearch.front(
            search_key, config, objectives.box, objectives, capacity=CAPACITY,
            start=_known(question, config.population // 2), progress=advance,
        )  # fmt: skip
    kept = np.asarray(jax.vmap(objectives.kept)(jnp.asarray(found.vectors)), np.int64)
    every = jnp.asarray(sizes, jnp.int32)
    error = np.append(found.values[:, 0], 1 - float(masked(every).metric))
    points = _points(masked, sample.x, np.concatenate([kept, sizes[None]]), error)
    facts = {
        "points": points[:-1],
        "dense": points[-1],
        "settings": {
            "examples": len(sample.y),
            "evaluations": config.evaluations,
            "population": config.population,
            "generations": generations,
        },
    }
    seen = {name: getattr(found.info, name) for name in ("vectors", "values", "violation")}
    return Stage({"front": {"vectors": found.vectors, "values": found.values, "kept": kept}, "seen": seen}, facts)


def _known(question: Question, count: int) -> np.ndarray:
    """Ratios [S, V] to start from: nothing pruned, then LAMP's and the scores' own at about ``count`` / 2 budgets."""
    least, most = evosearch.objectives.kept_range(question.groups, question.bounds)
    fewest = max(int(np.maximum(least, 1).sum()), int(most.sum()) // FARTHEST)
    budgets = np.geomspace(most.sum(), fewest, 1 + count // 2)[1:].astype(np.int64)
    found = [list(baselines.unsearched(question, int(budget), ("lamp", "score")).values()) for budget in budgets]
    kept = np.concatenate([most[None], *found])
    return (1 - kept / np.asarray(question.masked.sizes))[:, lattice.of(question.groups).lead]


def _points(masked: MaskedLoss, x: Any, kept: np.ndarray, error: np.ndarray) -> list[dict[str, Any]]:
    """Exact counts of every row of ``kept`` int [N, G], with its error."""
    params = masked.net.params
    examples = len(jax.tree.leaves(x)[0])
    products = costs.macs(masked.net, jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), x))
    points = []
    for counts, missed in zip(kept, error, strict=True):
        found = jax.device_get(masks.from_kept(params, masked.groups, masked.ranks, jnp.asarray(counts, jnp.int32)))
        points.append(
            {
                "error": round(float(missed) * examples) / examples,  # whole examples: without float32's rounding
                "params": costs.parameters(params, found).all_kept,
                "macs": costs.kept_products(products, params, found),
                "bytes": costs.packed_total(params, found),
                "kept": [int(count) for count in counts],
            }
        )
    return points


def _reported(point: dict[str, Any]) -> reporting.TradePoint:
    return reporting.TradePoint(**{**point, "kept": tuple(point["kept"])})
