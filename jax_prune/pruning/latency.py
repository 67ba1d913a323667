"""Measured latency as a cost of kept channels: what a call of compact networks took, as a sum of what they cost.

    counts = latency.spread(groups, 12)
    seconds = latency.measure([build(kept) for kept in counts], x)
    model = latency.fit([macs, parameters], counts, seconds, groups)
    limit = model.limit(0.004)                      # seconds of a call: a limit as those of MACs and parameters

A call takes a constant, and so much for each multiply-accumulate and each parameter, none of them negative: three
numbers for a machine, a network and a batch. How far that is off is part of the model, and what was chosen under it
is measured in the end (``within``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.stats

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_costs
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.channel_budgets import Limit, limit
from jax_prune.pruning.channel_costs import ChannelCost
from jax_prune.types import Group

FEMTO = 10**15  # a second's femtoseconds: 2**63 of them are two and a half hours
WARM, ROUNDS = 3, 15


class Latency(NamedTuple):
    """``cost`` in femtoseconds of a call, monotone in the kept counts.

    ``weights`` seconds of the constant and of one unit of each cost; ``seconds`` [K] as measured; ``errors`` [K]
    relative, of each network as predicted from the others alone.
    """

    cost: ChannelCost
    weights: np.ndarray
    seconds: np.ndarray
    errors: np.ndarray

    def predicted(self, kept: Any) -> float:
        """Seconds of a call with kept counts int [G]."""
        return channel_costs.spent(self.cost, kept) / FEMTO

    def limit(self, seconds: float) -> Limit:
        """The most that a call may take, as ``channel_projection.project`` takes it."""
        return limit(self.cost, round(seconds * FEMTO))


def spread(groups: Sequence[Group], count: int, fewest: float = 0.1) -> np.ndarray:
    """Counts int64 [K, G] to measure: the whole net, then shares from ``fewest``, 0.5 at most, to 1 (Sobol)."""
    sizes = grouping.sizes(groups)
    power = max(count - 1, 1).bit_length()
    points = scipy.stats.qmc.Sobol(len(groups), seed=0).random_base2(power)[: count - 1]
    # wider ones and narrower ones: with many groups independent shares would all cost about the same
    level = np.linspace(2 * fewest, 1, count - 1)[:, None]
    shares = level * (0.5 + points / 2)
    steps = np.asarray([group.step for group in groups])
    kept = np.clip(np.round(shares * sizes / steps) * steps, np.minimum(steps, sizes), sizes)
    return np.concatenate([sizes[None], kept]).astype(np.int64)


def measure(functions: Sequence[Callable[[Any], Any]], x: Any, *, rounds: int = ROUNDS) -> np.ndarray:
    """Seconds float64 [K] of ``function(x)``, each compiled and warm: medians over ``rounds`` in which all take turns.

    In turns, so that what the machine does besides troubles all alike. A function that is a pytree, as a Net is, keeps
    its arrays as arguments.
    """
    calls = [_compiled(function, x) for function in functions]
    for call in calls:
        for _ in range(WARM):
            call()
    return np.median([[_seconds(call) for call in calls] for _ in range(rounds)], axis=0)


def fit(costs: Sequence[ChannelCost], kept: np.ndarray, seconds: np.ndarray, groups: Sequence[Group]) -> Latency:
    """Least squares of relative errors with weights not negative, over K networks: counts int [K, G], seconds [K].

    Raises BadInput for fewer networks than weights and one more.
    """
    seconds = np.asarray(seconds, np.float64)
    if len(seconds) != len(kept) or len(seconds) < len(costs) + 2:
        raise BadInput(
            f"{len(kept)} networks and {len(seconds)} times for {len(costs) + 1} weights: measure at least "
            f"{len(costs) + 2} networks"
        )
    if not (np.isfinite(seconds) & (seconds > 0)).all():
        raise BadInput(f"seconds of a call are {seconds}: give positive numbers")
    features = np.asarray([[1, *(channel_costs.spent(cost, row) for cost in costs)] for row in kept], np.float64)
    weights = _weights(features, seconds)
    others = [np.arange(len(seconds)) != number for number in range(len(seconds))]
    predicted = [features[number] @ _weights(features[rest], seconds[rest]) for number, rest in enumerate(others)]
    constant, *each = weights * FEMTO
    cost = channel_costs.combined(each, costs, constant, groups, "femtoseconds")
    return Latency(cost, weights, seconds, np.asarray(predicted) / seconds - 1)


def within(
    model: Latency,
    seconds: float,
    choose: Callable[[Limit], np.ndarray],
    build: Callable[[np.ndarray], Callable[[Any], Any]],
    x: Any,
    *,
    corrections: int = 4,
    measured: Callable[[Sequence[Callable[[Any], Any]], Any], np.ndarray] = measure,
) -> tuple[np.ndarray, float]:
    """Counts that ``choose`` gives under a limit, such that the network built was measured to hold ``seconds``.

    Gives them with the seconds measured. While it takes too long the limit shrinks by as much, a few
    ``corrections`` at most; raises BadInput where they do not do.
    """
    asked, took = seconds, np.inf
    for _ in range(1 + corrections):
        kept = choose(model.limit(asked))
        (took,) = measured([build(kept)], x)
        if took <= seconds:
            return kept, float(took)
        asked = model.predicted(kept) * seconds / took  # below what these counts are predicted
    raise BadInput(
        f"a call was measured to take {took:.3g} s, {seconds:.3g} s are allowed, after {corrections} corrections: "
        "allow more, or measure on a quiet machine"
    )


def _weights(features: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    rows = features / seconds[:, None]
    scale = np.linalg.norm(rows, axis=0)
    return scipy.optimize.nnls(rows / scale, np.ones(len(rows)))[0] / scale


def _compiled(function: Callable[[Any], Any], x: Any) -> Callable[[], Any]:
    given = jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
    program = jax.jit(lambda function, x: function(x)).lower(given, x).compile()
    return lambda: jax.block_until_ready(program(given, x))


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
