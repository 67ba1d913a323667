"""The story: rank, bound, search, mask, tune, repeat; every stage kept on disk, so a killed run goes on."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jax_prune import datasets, learning
from jax_prune.errors import BadInput
from jax_prune.fitting import check_fit
from jax_prune.learning import ExampleFunction
from jax_prune.lesson import Lesson
from jax_prune.plan import Plan, budgets, check_chunks, checked, cost_of
from jax_prune.pruning import budgets as spending
from jax_prune.pruning import groups as grouping
from jax_prune.rounds import ask, judged_as_candidates, sweep, tune
from jax_prune.searching import find, settle
from jax_prune.stages import Stage, Stages, stage_key
from jax_prune.types import Array, Batch, Group, Masks, Net

__all__ = ["Compressed", "Plan", "Round", "calibration_sample", "compress"]


class Round(NamedTuple):
    """One round: its budget, what was spent of it (``plan.cost_of``), the counts kept int [G], and its three stages."""

    number: int
    budget: int | None
    spent: int
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
    if not isinstance(net, Net):
        raise BadInput(
            f"net is a {type(net).__name__}: wrap it, nets.from_nnx(model) or nets.from_linen(module, variables)"
        )
    train, validation = _arrays(train, "training data"), _arrays(validation, "validation data")
    for batch, name in ((train, "training data"), (validation, "validation data")):
        check_fit(net, batch, loss, metric, name, plan.recipe.augment)
    stages = stages or Stages(None, {})
    example = jax.tree.map(lambda leaf: leaf[:1], train.x)
    groups = checked(plan, net, example)
    cost = cost_of(plan, net, groups, example)
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
    sample = calibration_sample(stage_key(key, "calibration"), train, plan.calibration)
    check_chunks(plan, len(jax.tree.leaves(sample.x)[0]))
    (reference,) = learning.evaluate(judged_as_candidates(net, sample), sample, metric)
    rounds: list[Round] = []
    for number, budget in enumerate(budgets(plan, groups, cost), start=1):
        name = f"round_{number}"
        key_of = partial(stage_key, key)
        before = rounds[-1].kept if rounds else grouping.sizes(groups)
        question = ask(key_of(f"{name}/rank"), net, groups, before, sample, lesson, plan, budget, cost, reference)
        sensitivity = stages(f"{name}/sensitivity", partial(sweep, question, plan))
        question = question.within(sensitivity)
        settled = settle(question, plan, stages)
        search = stages(
            f"{name}/search", partial(find, key_of(f"{name}/search"), question, plan, settled, stages, name)
        )
        kept = search.arrays["kept"]
        steps = plan.final_steps if number == plan.rounds else plan.round_steps
        tuned = stages(
            f"{name}/tuned", partial(tune, key_of(f"{name}/tune"), question, kept, lesson, plan, steps, name)
        )
        net = net.replace(params=_on_device(tuned.arrays["params"]), state=_on_device(tuned.arrays["state"]))
        spent = spending.spent(cost or spending.weights(groups), kept)
        rounds.append(Round(number, budget, spent, kept, sensitivity, search, tuned))
    masks = _on_device(rounds[-1].tuned.arrays["masks"])
    ratios = 1 - kept / grouping.sizes(groups)
    return Compressed(net, masks, groups, kept, ratios, tuple(rounds))


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


def _arrays(data: Batch | Iterable[Batch], name: str) -> Batch:
    return datasets.check(data, name=name) if isinstance(data, Batch) else datasets.from_batches(data, name=name)


def calibration_sample(key: Array, train: Batch, count: int, after: int = 0) -> Batch:
    """``count`` training examples, drawn once, on which all candidates of a run are compared; ``after`` so many others.

    Fewer where there are fewer.
    """
    examples = jax.tree.leaves(train.x)[0].shape[0]
    chosen = np.sort(np.asarray(jax.random.permutation(key, examples))[after : after + count])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], train)


def _on_device(tree: object) -> object:
    """Through the host: arrays that JAX takes for placed by hand would compile everything once more."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(np.asarray(leaf)), tree)
