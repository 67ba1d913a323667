"""What ``har`` measures of networks: what they take windows for, their scores by class, and what a call takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import learning, nets
from jax_prune.datasets.har import Fold
from jax_prune.pruning import latency
from jax_prune.stages import Stage
from jax_prune.studies.har_baseline import NAME, Answers
from jax_prune.types import Array, Batch, Net

BATCHES = (1, 256)  # windows of a timed call


class Scores(NamedTuple):
    """Of K classes: accuracy, mean F1 of those that occur, precision, recall, F1 [K]; counts [K, K], rows the truth.

    Of a class that does not occur nothing is known: its entries are NaN.
    """

    accuracy: float
    macro_f1: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    confusion: np.ndarray


def scores(truth: np.ndarray, answers: np.ndarray, classes: int) -> Scores:
    """Of labels and answers int [N]; a class that occurs and nobody answers has precision and F1 0."""
    from sklearn import metrics  # brings SciPy's optimisers: only here

    known = list(range(classes))
    found = metrics.precision_recall_fscore_support(truth, answers, labels=known, zero_division=0)
    precision, recall, f1 = (np.where(found[3] > 0, own, np.nan) for own in found[:3])
    return Scores(
        float(metrics.accuracy_score(truth, answers)), float(np.nanmean(f1)), precision, recall, f1,
        metrics.confusion_matrix(truth, answers, labels=known),
    )  # fmt: skip


def answered(net: Net, batch: Batch) -> np.ndarray:
    """The class of the largest logit, int16 [N]; -1, which is wrong, where a logit is not finite."""
    logits = learning.outputs_of(net, batch)
    found = jnp.where(jnp.isfinite(logits).all(-1), jnp.argmax(logits, -1), -1)
    return np.asarray(found, np.int16)


def accuracy(net: Net, batch: Batch) -> float:
    """Share of right answers."""
    return learning.evaluate(net, batch, learning.correct)[0]


def answers(asked: Mapping[str, Sequence[Net]], baseline: Answers, fold: Fold, test_too: bool) -> Stage:
    """Answers of every net [S, N] to validation and test windows: the only reader of the test subjects, and once.

    The ``baseline``'s are [1, N], under its NAME.
    """
    parts = {"validation": fold.validation} | ({"test": fold.test} if test_too else {})
    found = {
        part: {name: np.stack([answered(net, windows.batch) for net in own]) for name, own in asked.items()}
        for part, windows in parts.items()
    }
    for part, windows in parts.items():
        found[part][NAME] = baseline(windows.x)[None]
    return Stage(found, {})


def timing(asked: Mapping[str, Sequence[Net]], fold: Fold) -> Stage:
    """Seconds of a jitted call of the first seed's nets, warm, in turns, by name and batch; ``sample`` of a stream's.

    Networks of masked weights run as dense ones do and are left out.
    """
    timed = {name: own[0] for name, own in asked.items() if not name.startswith(("reference:", "weights:"))}
    facts: dict[str, dict[str, float]] = {name: {} for name in timed}
    for batch in BATCHES:
        windows = jnp.asarray(np.resize(fold.validation.x, (batch, *fold.validation.x.shape[1:])))
        for name, seconds in zip(timed, latency.measure(list(timed.values()), windows), strict=True):
            facts[name][str(batch)] = float(seconds)
    forward = [name for name, net in timed.items() if not _reads_backwards(net)]
    steps = [_one_sample(timed[name]) for name in forward]
    for name, seconds in zip(forward, latency.measure(steps, jnp.asarray(fold.validation.x[:1, 0])), strict=True):
        facts[name]["sample"] = float(seconds)
    return Stage({}, facts)


def _reads_backwards(net: Net) -> bool:
    return "backward" in net.params


def _one_sample(net: Net) -> Callable[[Array], Any]:
    stream, step = nets.streaming(net)
    return jax.tree_util.Partial(step, net.params, stream)
