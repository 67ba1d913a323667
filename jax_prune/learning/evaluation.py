"""Means over a data set: in evaluation mode, chunk by chunk, one compiled program."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.learning.objectives import ExampleFunction
from jax_prune.types import Array, Batch, Net

CHUNK = 1000  # examples at once: large enough for the GEMM peak, small enough for any cache


def evaluate(net: Net, batch: Batch, *functions: ExampleFunction) -> tuple[float, ...]:
    """Mean of every ``function(outputs, batch) -> [B]`` over the examples, as Python floats.

    Sums are taken per example in float32 and added in float64 on the host.
    """
    sums = np.zeros(len(functions))
    for chunk in _chunks(batch):
        values = _values(net.apply, functions, net.params, net.state, chunk)
        sums += [np.sum(np.asarray(value), dtype=np.float64) for value in values]
    return tuple(float(total) for total in sums / _length(batch))


def outputs_of(net: Net, batch: Batch) -> Array:
    """The network's outputs for every example, in order."""
    parts = [_outputs(net.apply, net.params, net.state, chunk.x) for chunk in _chunks(batch)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@partial(jax.jit, static_argnums=(0, 1))
def _values(apply: Any, functions: Any, params: Any, state: Any, batch: Batch) -> list[Array]:
    outputs, _ = apply(params, state, batch.x, train=False, key=None)
    return [function(outputs, batch) for function in functions]


@partial(jax.jit, static_argnums=0)
def _outputs(apply: Any, params: Any, state: Any, x: Any) -> Any:
    return apply(params, state, x, train=False, key=None)[0]


def _chunks(batch: Batch) -> list[Batch]:
    starts = range(0, _length(batch), CHUNK)
    return [jax.tree.map(lambda leaf, s=start: leaf[s : s + CHUNK], batch) for start in starts]


def _length(batch: Batch) -> int:
    return int(jax.tree.leaves(batch.x)[0].shape[0])
