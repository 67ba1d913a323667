"""The story: rank, bound, search, mask, tune, repeat; every stage kept on disk, so a killed run goes on."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jax_prune import datasets, evosearch, learning
from jax_prune.errors import BadInput, said
from jax_prune.learning import ExampleFunction, Recipe
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.groups import Rule
from jax_prune.rounds import RECOVERIES, SCORES, SEARCHED, STATIC, Lesson, ask, find, sweep, tune
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.types import Array, Batch, Group, Masks, Net


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to reach, and how.

    Give ``compression`` (prunable entries over kept ones, biases counted where they are pruned) or ``budget``
    (kept entries), or ``tolerance``: how far the metric's mean on the calibration data may fall below the
    trained net's; then each round asks for the highest compression. Budgets fall from all entries to the last
    one with log compression ``1 - (1 - r / rounds) ** front`` of the way at round r.

    ``score``: fisher, magnitude, taylor or random; what returns while tuning is ranked by fisher under taylor, and
    under random nothing returns. ``allocation``, who sets the layers' ratios: de, random,
    uniform, erk, lamp, global (magnitude) or score (the ranking's own scores, compared over all layers).
    ``baselines``: also score what every other allocation would lose, in every round, for the report.
    ``sensitivity``: the loss increase, in units of the loss, at which a layer's own sweep ends its box.
    ``at_once``: candidates evaluated together, since the number changes last bits; 0 lets a short timed probe
    choose under ``memory`` bytes, once a run.
    ``distillation``: weight of the trained net's softened outputs in the tuning loss; None is 0.95 under
    ``learning.cross_entropy``, whose outputs are logits, and 0 under any other loss.
    ``recovery``: topk, hysteresis or none; see ``learning.Recovery`` for ``until`` and ``rate``. Steps are rounded
    up to whole hundreds; the last round takes ``final_steps``.
    """

    compression: float | None = 40.0
    budget: int | None = None
    tolerance: float | None = None
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
    calibration: int = 2000
    sensitivity: float = 1.0
    memory: int = 2 * 2**30
    at_once: int = 0
    recipe: Recipe = Recipe(learning_rate=5e-3)
    distillation: float | None = None
    temperature: float = 4.0
    recovery: str = "topk"
    recovery_until: float = 0.85
    recovery_rate: float = 0.01


class Round(NamedTuple):
    """One round: its budget, the counts kept int [G], and what its three stages gave (see ``rounds``)."""

    number: int
    budget: int | None
    kept: np.ndarray
    sensitivity: Stage
    search: Stage
    tuned: Stage


class Compressed(NamedTuple):
    """The result: ``net`` with removed entries at zero, its ``masks``, groups, ratios [G], and every round."""

    net: Net
    masks: Masks
    groups: tuple[Group, ...]
    kept: np.ndarray
    ratios: np.ndarray
    rounds: tuple[Round, ...]


def compress(
    key: Array,
    net: Net,
    train: Batch | Iterable[Batch],
    validation: Batch | Iterable[Batch],
    plan: Plan,
    *,
    loss: ExampleFunction = learning.cross_entropy,
    metric: ExampleFunction = learning.correct,
    teacher: Net | None = None,
    stages: Stages | None = None,
) -> Compressed:
    """Prunes a trained ``net`` to the plan's budget or tolerance, and tunes what is left.

    ``loss(outputs, batch) -> [B]``, lower is better, is searched and trained on ``train``; ``metric``, higher is
    better, is what ``tolerance`` bounds and what is reported on ``validation``. Tuning distils from ``teacher``, by
    default the trained net itself; ``nets.committee`` makes a better one of several. Data is a Batch of arrays, every
    leaf with leading axis B, or an iterable of such batches. ``stages`` keeps every stage on disk. Raises BadInput
    for data or weights with NaN and for a plan that cannot be carried out.
    """
    train, validation = _arrays(train, "training data"), _arrays(validation, "validation data")
    for batch, name in ((train, "training data"), (validation, "validation data")):
        check_fit(net, batch, loss, metric, name, plan.recipe.augment)
    stages = stages or Stages(None, {})
    groups = checked(plan, net)
    teacher = net if teacher is None else teacher
    _claim(
        stages,
        plan,
        {
            "key": jax.random.key_data(key),
            "net": (net.params, net.state),
            "teacher": (teacher.params, teacher.state),
            "training data": train,
            "validation data": validation,
            "loss": _named(loss),
            "metric": _named(metric),
        },
    )
    net = net.replace(params=_on_device(net.params), state=_on_device(net.state))
    lesson = Lesson.of(teacher, train, validation, plan, loss, metric)
    sample = _sample(stage_key(key, "calibration"), train, plan.calibration)
    (reference,) = learning.evaluate(net, sample, metric)
    rounds: list[Round] = []
    for number, budget in enumerate(budgets(plan, groups), start=1):
        name = f"round_{number}"
        key_of = partial(stage_key, key)
        before = rounds[-1].kept if rounds else grouping.sizes(groups)
        question = ask(key_of(f"{name}/rank"), net, groups, before, sample, lesson, plan, budget, reference)
        sensitivity = stages(f"{name}/sensitivity", partial(sweep, question, plan))
        question = question.within(sensitivity)
        search = stages(f"{name}/search", partial(find, key_of(f"{name}/search"), question, plan, stages))
        kept = search.arrays["kept"]
        steps = plan.final_steps if number == plan.rounds else plan.round_steps
        tuned = stages(
            f"{name}/tuned", partial(tune, key_of(f"{name}/tune"), question, kept, lesson, plan, steps, name)
        )
        net = net.replace(params=_on_device(tuned.arrays["params"]), state=_on_device(tuned.arrays["state"]))
        rounds.append(Round(number, budget, kept, sensitivity, search, tuned))
    masks = _on_device(rounds[-1].tuned.arrays["masks"])
    ratios = 1 - kept / grouping.sizes(groups)
    return Compressed(net, masks, groups, kept, ratios, tuple(rounds))


def checked(plan: Plan, net: Net) -> tuple[Group, ...]:
    """The net's weight groups under the plan's rules. Raises BadInput for whatever of the plan cannot be done.

    Costs nothing, so that a long run can ask before its first step.
    """
    groups = grouping.weight_groups(net.params, plan.rules, biases=plan.biases)
    grouping.bounds(groups, plan.rules)
    _check_ranges(plan)
    budgets(plan, groups)
    for name, value, known in (
        ("score", plan.score, SCORES),
        ("allocation", plan.allocation, (*SEARCHED, *STATIC)),
        ("recovery", plan.recovery, RECOVERIES),
    ):
        if value not in known:
            raise BadInput(f"unknown {name} '{value}': known are {', '.join(known)}")
    return groups


def _claim(stages: Stages, plan: Plan, others: dict[str, object]) -> None:
    """Raises BadInput where ``stages`` hold rounds of another plan, net or data: they would be taken for these."""
    settings = json.loads(json.dumps(dataclasses.asdict(plan), default=_named))
    now = {name: value if isinstance(value, str) else _digest(value) for name, value in others.items()}
    before = stages("plan", lambda: Stage({}, {"plan": settings, "others": now})).facts
    changed = [f"{n}={before['plan'].get(n)!r}" for n, value in settings.items() if before["plan"].get(n) != value]
    changed += [f"another {n}" for n, value in now.items() if before.get("others", {}).get(n) != value]
    if changed:
        raise BadInput(f"these stages are of a run with {changed[0]}; give a folder of its own to each run")


def _digest(tree: object) -> int:
    """CRC-32 over every leaf's path, shape, dtype and bytes."""
    crc = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.asarray(leaf)
        crc = zlib.crc32(f"{jax.tree_util.keystr(path)}{array.shape}{array.dtype}".encode(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    return crc


def _named(value: object) -> str:
    """A function of the plan by its name, the same in every process."""
    inner = getattr(value, "func", value)
    return f"{getattr(inner, '__qualname__', type(inner).__name__)}{getattr(value, 'keywords', '')}"


def _check_ranges(plan: Plan) -> None:
    ranges: tuple[tuple[str, float, float, float], ...] = (
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
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise BadInput(f"{name} is {value}: give {low} or more" + ("" if high == np.inf else f", at most {high}"))


def budgets(plan: Plan, groups: tuple[Group, ...]) -> Sequence[int | None]:
    """Kept entries after each round; None in every round of a tolerance plan. Raises BadInput out of range."""
    if plan.rounds < 1:
        raise BadInput(f"rounds is {plan.rounds}: give at least 1")
    if plan.tolerance is not None:
        return [None] * plan.rounds
    total = int(grouping.sizes(groups).sum())
    if plan.budget is None and not (plan.compression and plan.compression >= 1):
        raise BadInput(f"compression is {plan.compression}: give a factor of 1 or more, or a budget or tolerance")
    target = plan.budget if plan.budget is not None else int(total / (plan.compression or 1))
    if target < len(groups):
        raise BadInput(
            f"budget {target} is below one weight for each of {len(groups)} layers: ask for less compression"
        )
    if target > total:
        raise BadInput(f"budget {target} is above the {total} prunable entries: give fewer")
    least, most = evosearch.reachable([group.size for group in groups], grouping.bounds(groups, plan.rules))
    if not least <= target <= most:
        raise BadInput(f"budget {target} cannot be met: the rules allow {least} to {most} kept entries in all")
    way = 1 - (1 - np.arange(1, plan.rounds + 1) / plan.rounds) ** plan.front
    falling = [int(total * (target / total) ** share) for share in way[:-1]]
    return [min(most, max(target, budget)) for budget in falling] + [target]


def check_fit(
    net: Net,
    batch: Batch,
    loss: ExampleFunction,
    metric: ExampleFunction,
    name: str,
    augment: learning.Augmentation | None = None,
) -> None:
    """Raises BadInput, in one line, where data, net, loss, metric, augmentation do not fit; computes nothing."""
    few = jax.tree.map(lambda leaf: leaf[:2], batch)
    if augment is not None:
        jax.eval_shape(augment, jax.random.key(0), jax.tree.map(np.asarray, few.x))
    examples = len(jax.tree.leaves(few.x)[0])
    try:
        outputs = jax.eval_shape(lambda net, x: net(x), net, few.x)
    except Exception as error:
        raise BadInput(f"{name}: the net does not take it: {said(error)}") from error
    if loss is learning.cross_entropy:
        datasets.check(batch, classes=outputs.shape[-1], name=name)
    for role, function in (("loss", loss), ("metric", metric)):
        try:
            shape = jax.eval_shape(function, outputs, few).shape
        except Exception as error:
            raise BadInput(f"{name}: the {role} does not take it: {said(error)}") from error
        if shape != (examples,):
            raise BadInput(
                f"{name}: the {role} of {examples} examples has shape {list(shape)}: give one number each, [B]"
            )
    try:
        jax.eval_shape(jax.grad(lambda params: loss(net.replace(params=params)(few.x), few).mean()), net.params)
    except Exception as error:
        raise BadInput(f"{name}: the loss cannot be differentiated: {said(error)}") from error


def _arrays(data: Batch | Iterable[Batch], name: str) -> Batch:
    return datasets.check(data, name=name) if isinstance(data, Batch) else datasets.from_batches(data, name=name)


def _sample(key: Array, train: Batch, count: int) -> Batch:
    """``count`` training examples, drawn once, on which all candidates of a run are compared."""
    examples = jax.tree.leaves(train.x)[0].shape[0]
    chosen = np.sort(np.asarray(jax.random.permutation(key, examples))[: min(count, examples)])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], train)


def _on_device(tree: object) -> object:
    """Through the host: arrays that JAX takes for placed by hand would compile everything once more."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(np.asarray(leaf)), tree)
