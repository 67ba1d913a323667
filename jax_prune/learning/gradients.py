"""Gradients of a trained net over its data: what scores of connections are made of."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.learning.objectives import ExampleFunction
from jax_prune.types import Array, Batch, Net, Tree


class Moments(NamedTuple):
    """Mean and mean square over mini-batches of the loss gradient; trees like ``params``."""

    mean: Tree
    square: Tree


def moments(
    key: Array, net: Net, data: Batch, loss: ExampleFunction, *, batches: int = 100, size: int = 128
) -> Moments:
    """Of the mean loss's gradient over ``batches`` random mini-batches of ``size`` examples, in evaluation mode."""
    examples = jax.tree.leaves(data.x)[0].shape[0]
    indices = jax.random.randint(key, (batches, min(size, examples)), 0, examples)
    return _moments(net.apply, loss, net.params, net.state, data, indices)


@partial(jax.jit, static_argnums=(0, 1))
def _moments(apply: Any, loss: ExampleFunction, params: Tree, state: Tree, data: Batch, indices: Array) -> Moments:
    def mean_loss(params: Tree, batch: Batch) -> Array:
        outputs, _ = apply(params, state, batch.x, train=False, key=None)
        return loss(outputs, batch).mean()

    def add(sums: Moments, index: Array) -> tuple[Moments, None]:
        gradient = jax.grad(mean_loss)(params, jax.tree.map(lambda leaf: leaf[index], data))
        mean = jax.tree.map(jnp.add, sums.mean, gradient)
        square = jax.tree.map(lambda total, slope: total + slope**2, sums.square, gradient)
        return Moments(mean, square), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    sums, _ = jax.lax.scan(add, Moments(zeros, zeros), indices)
    return jax.tree.map(lambda total: total / len(indices), sums)
