"""What a compression is to reach, and how: the plan, its checks, and the budgets of its rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_prune import evosearch, learning, settings
from jax_prune.errors import BadInput
from jax_prune.evosearch.masked import CHUNK, PRECISIONS
from jax_prune.learning import Recipe
from jax_prune.pruning import budgets as spending
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import lattice
from jax_prune.pruning.budgets import Cost
from jax_prune.pruning.groups import Rule
from jax_prune.types import Group, Net

RECOVERIES = ("topk", "hysteresis", "none")
SCORES = ("fisher", "magnitude", "taylor", "random")
SEARCHED = ("de", "random")
NOT_TAUGHT = "neighbour_weight averages the teacher's answers, and distillation is 0: give it a weight, or drop both"
STATIC = ("uniform", "erk", "lamp", "global", "score", "greedy")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to reach, and how.

    Give ``compression`` (prunable entries over kept ones, biases counted where they are pruned) or ``budget``
    (kept entries), or ``tolerance``: how far the metric's mean on the calibration data may fall below the
    trained net's; then each round asks for the highest compression. ``max_macs`` bounds the kept weights' products an
    example, ``max_bytes`` positions and values in the packed file before compression, as ``pruning.budgets`` counts
    them. Beside any of these ``compression`` is not read. Budgets fall from the whole net to the last one with log
    compression ``1 - (1 - r / rounds) ** front`` of the way at round r.

    ``score``: fisher, magnitude, taylor or random; what returns while tuning is ranked by fisher under taylor, and
    under random nothing returns. ``allocation``, who sets the layers' ratios: de, random,
    uniform, erk, lamp, global (magnitude), score (the ranking's own scores, compared over all layers) or greedy (steps
    down the one-layer sweeps).
    ``baselines``: also score what every other allocation would lose, in every round, for the report.
    ``audit``: evaluate whole, after a search, what it dropped early, for the report; see ``evosearch.audit``.
    ``sensitivity``: the loss increase, in units of the loss, at which a layer's own sweep ends its box.
    ``at_once``: candidates evaluated together, since the number changes last bits; 0 lets a short timed probe
    choose, once a run. ``memory``: bytes that a search may hold in all, see ``evosearch.memory``. ``precision``:
    float32, or bfloat16 for the products of the searches' candidates; the best few are then scored again in float32,
    and all that is compared is float32.
    ``distillation``: weight of the trained net's softened outputs in the tuning loss; None is 0.95 under
    ``learning.cross_entropy``, whose outputs are logits, and 0 under any other loss.
    ``neighbour_weight``: with an augmentation of few variants, as ``learning.RandomShift``, how much the teacher's
    answers to neighbouring variants count beside its own; see ``learning.answers``.
    ``recovery``: topk, hysteresis or none; see ``learning.Recovery`` for ``until`` and ``rate``. Steps are rounded
    up to whole hundreds; the last round takes ``final_steps``.
    """

    compression: float | None = 40.0
    budget: int | None = None
    tolerance: float | None = None
    max_macs: int | None = None
    max_bytes: int | None = None
    rounds: int = 6
    front: float = 2.0
    round_steps: int = 2000
    final_steps: int = 6000
    score: str = "fisher"
    biases: bool = True
    rules: tuple[Rule, ...] = ()
    allocation: str = "de"
    baselines: bool = True
    search: evosearch.Config = evosearch.Config()
    audit: bool = False
    calibration: int = 2000
    sensitivity: float = 1.0
    memory: int = 2 * 2**30
    at_once: int = 0
    precision: str = "float32"
    recipe: Recipe = Recipe(learning_rate=5e-3)
    distillation: float | None = None
    temperature: float = 4.0
    neighbour_weight: float = 0.0
    recovery: str = "topk"
    recovery_until: float = 0.85
    recovery_rate: float = 0.01


def checked(plan: Plan, net: Net, example: Any = None) -> tuple[Group, ...]:
    """The net's weight groups under the plan's rules. Raises BadInput for whatever of the plan cannot be done.

    Costs nothing, so that a long run can ask before its first step. ``example`` is one input, with leading axis 1;
    ``max_macs`` needs it.
    """
    check_settings(plan)
    groups = grouping.weight_groups(net.params, plan.rules, biases=plan.biases)
    grouping.bounds(groups, plan.rules)
    budgets(plan, groups, cost_of(plan, net, groups, example))
    return groups


def check_settings(plan: Plan) -> None:
    """Raises BadInput for what can be told without a net: types, ranges, names, and settings that rule others out."""
    _check_types(plan)
    _check_ranges(plan)
    _check_one_question(plan)
    for name, value, known in (
        ("score", plan.score, SCORES),
        ("allocation", plan.allocation, (*SEARCHED, *STATIC)),
        ("recovery", plan.recovery, RECOVERIES),
        ("precision", plan.precision, PRECISIONS),
    ):
        if value not in known:
            raise BadInput(f"unknown {name} '{value}': known are {', '.join(known)}")
    _check_search(plan)
    if plan.neighbour_weight and not isinstance(plan.recipe.augment, learning.Variants):
        raise BadInput("neighbour_weight needs an augmentation of few variants, as RandomShift, or to be 0")
    if plan.neighbour_weight and plan.distillation == 0:
        raise BadInput(NOT_TAUGHT)


def _check_types(plan: Plan) -> None:
    settings.check(plan)
    settings.check(plan.recipe, "recipe.")
    for rule in plan.rules:
        settings.check(rule, f"rule '{rule.pattern}': ")


def _check_search(plan: Plan) -> None:
    """Raises BadInput for what a search would refuse only once the net is trained."""
    if plan.search.race == "paired" and plan.tolerance is not None:
        raise BadInput("paired races compare mean losses, and a tolerance counts errors: give race=exact")
    check_chunks(plan, plan.calibration)


def check_chunks(plan: Plan, examples: int) -> None:
    """Raises BadInput for races and shares of the data that take more calibration examples than there are."""
    chunks = -(-examples // CHUNK)
    try:
        evosearch.fidelity.chunks(plan.search.fidelity, chunks)
        evosearch.examples.check_duels(plan.search, chunks)
    except BadInput as error:
        raise BadInput(f"{error}; {examples} calibration examples are {chunks} chunks of at most {CHUNK}") from error


def _check_ranges(plan: Plan) -> None:
    ranges: tuple[tuple[str, float, float, float], ...] = (
        ("rounds", plan.rounds, 1, np.inf),
        ("calibration", plan.calibration, 1, np.inf),
        ("at_once", plan.at_once, 0, np.inf),
        ("memory", plan.memory, 1, np.inf),
        ("tolerance", plan.tolerance or 0.0, 0, np.inf),
        ("sensitivity", plan.sensitivity, 1e-9, np.inf),
        ("recovery_rate", plan.recovery_rate, 0, np.inf),
        ("round_steps", plan.round_steps, 0, np.inf),
        ("final_steps", plan.final_steps, 0, np.inf),
        ("learning_rate", plan.recipe.learning_rate, 0, np.inf),
        ("batch_size", plan.recipe.batch_size, 1, np.inf),
        ("front", plan.front, 0.1, 100),
        ("temperature", plan.temperature, 1e-3, 1e3),
        ("distillation", plan.distillation or 0.0, 0, 1),
        ("recovery_until", plan.recovery_until, 0, 1),
        ("neighbour_weight", plan.neighbour_weight, 0, 1),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise BadInput(f"{name} is {value}: give {low} or more" + ("" if high == np.inf else f", at most {high}"))


def cost_of(plan: Plan, net: Net, groups: tuple[Group, ...], example: Any) -> Cost | None:
    """What the plan's budgets count; None for entries that are removed one by one."""
    if plan.max_macs is not None:
        if example is None:
            raise BadInput("max_macs counts an example's products: give the example")
        return spending.macs(net, groups, example)
    if plan.max_bytes is not None:
        return spending.packed_bytes(net.params, groups)
    return None if lattice.fine(groups) else spending.weights(groups)


def budgets(plan: Plan, groups: tuple[Group, ...], cost: Cost | None = None) -> Sequence[int | None]:
    """What each round may spend of ``cost_of``; None in every round of a tolerance plan.

    Raises BadInput out of range.
    """
    if plan.tolerance is not None:
        return [None] * plan.rounds
    cost = cost or spending.weights(groups)
    total = spending.spent(cost, grouping.sizes(groups))
    target = _target(plan, total)
    unit = {"weights": "prunable entries"}.get(cost.name, f"{cost.name} of the whole net")
    if target > total:
        raise BadInput(f"budget {target} is above the {total} {unit}: give fewer")
    least, most = evosearch.reachable(groups, grouping.bounds(groups, plan.rules), cost)
    if target < len(groups) == least and cost.name == "weights":
        raise BadInput(
            f"budget {target} is below one weight for each of {len(groups)} layers: ask for less compression"
        )
    if target < least or (target > most and cost.name == "weights"):
        raise BadInput(_unreachable(plan, cost, target, total, least, most))
    way = 1 - (1 - np.arange(1, plan.rounds + 1) / plan.rounds) ** plan.front
    falling = [int(total * (target / total) ** share) for share in way[:-1]]
    return [max(target, min(most, budget)) for budget in falling] + [target]


def _unreachable(plan: Plan, cost: Cost, target: int, total: int, least: int, most: int) -> str:
    if cost.name != "weights":
        return f"budget {target} cannot be met: the rules allow {least} to {most} {cost.name} in all"
    asked = f"budget {target}" if plan.budget is not None else f"compression {plan.compression:g}, budget {target},"
    low, high = np.ceil(1e3 * total / most) / 1e3, np.floor(1e3 * total / max(least, 1)) / 1e3
    between = f"{low:g} to {high:g}" if low < high else f"about {total / most:.4g}"
    return f"{asked} cannot be met: the rules allow {least} to {most} kept entries, a compression of {between}"


def _check_one_question(plan: Plan) -> None:
    asked = [name for name in ("tolerance", "budget", "max_macs", "max_bytes") if getattr(plan, name) is not None]
    if len(asked) > 1:
        one, other = (f"{name} {getattr(plan, name)}" for name in asked[:2])
        raise BadInput(f"{one} and {other} are two questions: ask one")


def _target(plan: Plan, total: int) -> int:
    """The last round's budget."""
    for given in (plan.budget, plan.max_macs, plan.max_bytes):
        if given is not None:
            return given
    if not (plan.compression and plan.compression >= 1):
        raise BadInput(f"compression is {plan.compression}: give a factor of 1 or more, or a budget or tolerance")
    return int(total / plan.compression)


def tuning_steps(plan: Plan) -> int:
    """All training steps of a pruned net after its dense training."""
    rounds = (plan.rounds - 1) * learning.chunks_of(plan.round_steps) + learning.chunks_of(plan.final_steps)
    return rounds * learning.CHUNK
