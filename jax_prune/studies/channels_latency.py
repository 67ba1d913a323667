"""Latencies of ``channels``: of compact networks before a search, as its budget's model, and of what came out."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_prune import narrowing
from jax_prune.pruning import latency
from jax_prune.pruning.latency import Latency
from jax_prune.stages import Stage, Stages
from jax_prune.targets import Target
from jax_prune.types import Array, Net

NETWORKS = 12  # that the model is fitted to
BATCHES = (1, 256)  # of the report


def modelled(net: Net, target: Target, inputs: Any, batch: int, stages: Stages) -> Latency:
    """Seconds of a call of ``batch`` examples as a cost: measured once a run, which then goes on with these times.

    Of compact networks with the first channels of every group: which ones stay, and their weights, take no time.
    """
    found = stages("latency_model", partial(_measured, net, target, inputs, batch)).arrays
    costs = [target.costs[name] for name in ("macs", "parameters")]
    return latency.fit(costs, found["kept"], found["seconds"], target.groups)


def timing(timed: dict[str, Net], inputs: Any, more: tuple[int, ...] = ()) -> Stage:
    """Seconds of a jitted call, warm, in turns: medians, by net and batch; also of batches of ``more``."""
    facts: dict[str, dict[str, float]] = {name: {} for name in timed}
    for batch in sorted({*BATCHES, *more}):
        seconds = latency.measure(list(timed.values()), _batch(inputs, batch))
        for name, taken in zip(timed, seconds, strict=True):
            facts[name][str(batch)] = float(taken)
    return Stage({}, facts)


def _measured(net: Net, target: Target, inputs: Any, batch: int) -> Stage:
    kept = latency.spread(target.groups, NETWORKS)

    def build(counts: np.ndarray) -> Net:
        flags = [np.arange(group.size) < count for group, count in zip(target.groups, counts, strict=True)]
        return narrowing.cut(net, target, flags, inputs[:1])

    seconds = latency.measure([build(counts) for counts in kept], _batch(inputs, batch))
    return Stage({"kept": kept, "seconds": seconds}, {"batch": batch})


def _batch(inputs: Any, size: int) -> Array:
    return jnp.asarray(np.resize(inputs, (size, *inputs.shape[1:])))
