"""Gradients of a trained net over its data: what scores of connections and channels are made of."""

from __future__ import annotations

from collections.abc import Callable
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
    return _moments(net.apply, loss, net.params, net.state, data, _drawn(key, data, batches, size))


def mean_over_batches(
    key: Array,
    net: Net,
    data: Batch,
    loss: ExampleFunction,
    function: Callable[[Tree, Tree], Tree],
    *,
    batches: int = 100,
    size: int = 128,
) -> Tree:
    """Mean of ``function(params, gradient)``, static, over the same mini-batches: scores that square each one's sums.

    ``partial(channel_scores.taylor, groups=groups)``, say.
    """
    return _mean(net.apply, loss, function, net.params, net.state, data, _drawn(key, data, batches, size))


def _drawn(key: Array, data: Batch, batches: int, size: int) -> Array:
    """Which examples every mini-batch has: int32 [batches, size]."""
    examples = jax.tree.leaves(data.x)[0].shape[0]
    return jax.random.randint(key, (batches, min(size, examples)), 0, examples)


@partial(jax.jit, static_argnums=(0, 1))
def _moments(apply: Any, loss: ExampleFunction, params: Tree, state: Tree, data: Batch, indices: Array) -> Moments:
    def add(sums: Moments, index: Array) -> tuple[Moments, None]:
        gradient = _gradient(apply, loss, params, state, data, index)
        mean = jax.tree.map(jnp.add, sums.mean, gradient)
        square = jax.tree.map(lambda total, slope: total + slope**2, sums.square, gradient)
        return Moments(mean, square), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    sums, _ = jax.lax.scan(add, Moments(zeros, zeros), indices)
    return jax.tree.map(lambda total: total / len(indices), sums)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _mean(
    apply: Any, loss: ExampleFunction, function: Any, params: Tree, state: Tree, data: Batch, indices: Array
) -> Tree:
    def of(index: Array) -> Tree:
        return function(params, _gradient(apply, loss, params, state, data, index))

    def add(sums: Tree, index: Array) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, sums, of(index)), None

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(of, indices[0]))
    sums, _ = jax.lax.scan(add, zeros, indices)
    return jax.tree.map(lambda total: total / len(indices), sums)


def _gradient(apply: Any, loss: ExampleFunction, params: Tree, state: Tree, data: Batch, index: Array) -> Tree:
    """Of the mean loss over the examples ``index`` [b]."""
    batch = jax.tree.map(lambda leaf: leaf[index], data)

    def mean_loss(params: Tree) -> Array:
        outputs, _ = apply(params, state, batch.x, train=False, key=None)
        return loss(outputs, batch).mean()

    return jax.grad(mean_loss)(params)
