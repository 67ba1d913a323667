"""A candidate's own batch statistics, whatever the module's momentum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import evosearch, nets
from jax_prune.evosearch.recalibration import recalibration
from jax_prune.pruning import groups, masks, scores
from jax_prune.types import Batch

X = np.random.default_rng(0).normal(2, 3, (64, 6)).astype(np.float32)


class Normed(nnx.Module):
    def __init__(self, momentum, *, rngs):
        self.first = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=momentum, rngs=rngs)
        self.last = nnx.Linear(5, 3, rngs=rngs)
        self.steps = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        return self.last(jax.nn.relu(self.norm(self.first(x))))


class LinenNormed(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(linen.Dense(5)(x))
        return linen.Dense(3)(x)


def statistics(net):
    """What the first layer gives: mean and variance by NumPy in float64."""
    kernel, bias = (np.asarray(net.params["first"][name], np.float64) for name in ("kernel", "bias"))
    values = X @ kernel + bias
    return values.mean(0), values.var(0)


@pytest.mark.parametrize("momentum", [0.99, 0.9, 0.5])
def test_statistics_are_those_of_the_inputs_whatever_the_momentum(momentum):
    net = nets.from_nnx(Normed(momentum, rngs=nnx.Rngs(0)))
    state = recalibration(net, X)(net.params, net.state)
    mean, variance = statistics(net)
    np.testing.assert_allclose(state["norm"]["mean"], mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(state["norm"]["var"], variance, rtol=1e-3)
    assert state["steps"] == net.state["steps"]


def test_evaluation_mode_is_then_training_mode():
    net = nets.from_nnx(Normed(0.99, rngs=nnx.Rngs(0)))
    state = recalibration(net, X)(net.params, net.state)
    trained, _ = net.apply(net.params, net.state, X, train=True, key=None)
    evaluated, _ = net.apply(net.params, state, X, train=False, key=None)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_activations_are_no_trouble(scale):
    net = nets.from_nnx(Normed(0.99, rngs=nnx.Rngs(0)))
    state = recalibration(net, scale * X)(net.params, net.state)
    kernel, bias = (np.asarray(net.params["first"][name], np.float64) for name in ("kernel", "bias"))
    np.testing.assert_allclose(state["norm"]["var"], (scale * X @ kernel + bias).var(0), rtol=1e-3)


class Frozen(Normed):
    def __init__(self, momentum, *, rngs):
        super().__init__(momentum, rngs=rngs)
        self.still = nnx.BatchNorm(6, rngs=rngs)

    def __call__(self, x):
        return super().__call__(self.still(x, use_running_average=True))


def test_a_frozen_norm_stays():
    net = nets.from_nnx(Frozen(0.9, rngs=nnx.Rngs(0)))
    still = {"mean": jnp.full(6, 0.5), "var": jnp.full(6, 4.0)}
    net = net.replace(state={**net.state, "still": still})
    state = recalibration(net, X)(net.params, net.state)
    jax.tree.map(np.testing.assert_array_equal, state["still"], still)
    trained, _ = net.apply(net.params, net.state, X, train=True, key=None)
    evaluated, _ = net.apply(net.params, state, X, train=False, key=None)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-3)


class Dropped(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


def test_dropout_under_the_same_flag_is_no_trouble():
    module = Dropped()
    net = nets.from_linen(module, module.init(jax.random.key(0), X))
    state = recalibration(net, X)(net.params, net.state)
    np.testing.assert_allclose(state["batch_stats"]["BatchNorm_0"]["mean"], X.mean(0), rtol=1e-3)


def test_linen_networks_too():
    module = LinenNormed()
    net = nets.from_linen(module, module.init(jax.random.key(0), X))
    state = recalibration(net, X)(net.params, net.state)
    evaluated, _ = net.apply(net.params, state, X, train=False, key=None)
    trained, _ = net.apply(net.params, net.state, X, train=True, key=None)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-3)


def test_nothing_to_do_without_statistics():
    assert recalibration(nets.build("lenet300"), np.zeros((2, 28, 28, 1), np.float32)) is None


def test_candidates_are_judged_with_statistics_of_their_own():
    net = nets.from_nnx(Normed(0.99, rngs=nnx.Rngs(0)))
    parts = groups.weight_groups(net.params)
    ranks = masks.ranks(scores.magnitude(net.params, parts))
    kept = jnp.asarray([12, 9], jnp.int32)

    def loss(outputs, batch):
        return jnp.sum(outputs**2, -1)

    batch = Batch(X, np.zeros(64, np.int32))
    judged = evosearch.masked_loss(net, parts, ranks, batch, loss, chunk=16, recalibration=X)(kept).loss
    masked = masks.apply(net.params, masks.from_kept(net.params, parts, ranks, kept))
    own, _ = net.apply(masked, net.state, X, train=True, key=None)
    np.testing.assert_allclose(judged, np.mean(np.sum(np.asarray(own) ** 2, -1)), rtol=1e-3)
    stale = evosearch.masked_loss(net, parts, ranks, batch, loss, chunk=16)(kept).loss
    assert abs(stale - judged) > 0.1 * abs(judged)
