"""Inputs, outputs and targets may be trees; evaluation mode is what is meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jax_prune import learning, nets
from jax_prune.learning import Recipe
from jax_prune.types import Batch

RNG = np.random.default_rng(2)


class TwoInputs(linen.Module):
    """Dict in, dict out, with batch norm and dropout."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        hidden = linen.Dense(8)(x["left"]) + linen.Dense(8)(x["right"])
        hidden = linen.BatchNorm(use_running_average=not train)(hidden)
        hidden = linen.Dropout(0.5, deterministic=not train)(hidden)
        return {"value": linen.Dense(1)(hidden)[:, 0], "hidden": hidden}


def data(length):
    x = {"left": RNG.normal(size=(length, 3)).astype(np.float32), "right": RNG.normal(size=(length, 2)) + 1.0}
    x["right"] = x["right"].astype(np.float32)
    return Batch(x, {"value": (x["left"].sum(1) - x["right"].sum(1)).astype(np.float32)})


def squared(outputs, batch):
    return (outputs["value"] - batch.y["value"]) ** 2


def size(outputs, batch):
    return jnp.abs(outputs["hidden"]).sum(-1)


@pytest.fixture(scope="module")
def net():
    module = TwoInputs()
    return nets.from_linen(module, module.init(jax.random.key(0), data(2).x))


@pytest.mark.parametrize("length", [1, 1500])
def test_the_mean_of_trees_is_the_plain_mean(net, length):
    batch = data(length)
    outputs = jax.tree.map(np.asarray, net(batch.x))
    loss, hidden = learning.evaluate(net, batch, squared, size)
    np.testing.assert_allclose(loss, ((outputs["value"] - batch.y["value"]) ** 2).mean(dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(hidden, np.abs(outputs["hidden"]).sum(1).mean(dtype=np.float64), rtol=1e-5)
    found = learning.outputs_of(net, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, outputs)


def test_trees_train_and_statistics_move(net):
    batch = data(300)
    before = learning.evaluate(net, batch, squared)[0]
    trained = learning.train(
        jax.random.key(0),
        net,
        jax.device_put(batch),
        Recipe(learning_rate=2e-2, batch_size=50),
        loss=squared,
        steps=300,
    ).net
    assert learning.evaluate(trained, batch, squared)[0] < before / 2
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), trained.state, net.state)
    assert all(jax.tree.leaves(moved)) and jax.tree.leaves(moved)


def test_moments_are_taken_without_dropout(net):
    """One batch of one example: the squared mean gradient is the mean squared gradient, and no key matters."""
    batch = jax.device_put(data(1))
    first, second = (learning.moments(jax.random.key(seed), net, batch, squared, batches=2, size=1) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(lambda m, s: np.testing.assert_allclose(m**2, s, rtol=1e-5, atol=1e-8), first.mean, first.square)

    def loss(params):
        return squared(net.apply(params, net.state, batch.x, train=False, key=None)[0], batch)[0]

    slope = jax.grad(loss)(net.params)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), first.mean, slope)
