"""A user's module and its Net give the same numbers, both ways, in both Flax APIs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import nets

LIST = getattr(nnx, "List", list)  # older Flax holds modules in plain lists


class Blocks(nnx.Module):
    """Lists, batch norm and dropout: everything an adapter can trip over."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = LIST([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = self.dropout(self.norm(jax.nn.relu(layer(x))))
        return x


class LinenBlocks(linen.Module):
    @linen.compact
    def __call__(self, x, *, train: bool = False):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.mark.compat
def test_nnx_net_equals_the_module_in_evaluation_mode():
    model = Blocks(nnx.Rngs(0))
    net = nets.from_nnx(model)
    model.eval()
    np.testing.assert_allclose(net(X), model(X), rtol=1e-6)
    rebuilt = net.rebuild(net.params, net.state)
    rebuilt.eval()
    np.testing.assert_allclose(rebuilt(X), model(X), rtol=1e-6)


@pytest.mark.compat
def test_nnx_training_updates_statistics_and_leaves_the_module_alone():
    model = Blocks(nnx.Rngs(0))
    net = nets.from_nnx(model)
    before = np.array(model.norm.mean[...])
    _, state = net.apply(net.params, net.state, X, train=True, key=jax.random.key(1))
    assert not np.allclose(state["norm"]["mean"], net.state["norm"]["mean"])
    np.testing.assert_array_equal(model.norm.mean[...], before)


@pytest.mark.compat
def test_dropout_follows_the_key_and_rests_without_one():
    net = nets.from_nnx(Blocks(nnx.Rngs(0)))

    def outputs(key):
        return np.asarray(net.apply(net.params, net.state, X, train=True, key=key)[0])

    np.testing.assert_array_equal(outputs(jax.random.key(1)), outputs(jax.random.key(1)))
    assert not np.array_equal(outputs(jax.random.key(1)), outputs(jax.random.key(2)))
    assert (outputs(jax.random.key(1)) == 0).sum() > (outputs(None) == 0).sum()


def test_equal_architectures_share_one_compilation():
    first, second = (nets.from_nnx(Blocks(nnx.Rngs(seed))) for seed in (0, 1))
    traces = []

    @jax.jit
    def forward(net, x):
        traces.append(1)
        return net(x)

    assert not np.allclose(forward(first, X), forward(second, X))
    assert len(traces) == 1


@pytest.mark.compat
def test_linen_net_equals_module_apply():
    module = LinenBlocks()
    variables = module.init(jax.random.key(0), X)
    net = nets.from_linen(module, variables)
    np.testing.assert_allclose(net(X), module.apply(variables, X), rtol=1e-6)
    outputs, state = net.apply(net.params, net.state, X, train=True, key=jax.random.key(1))
    expected, changed = module.apply(
        variables, X, train=True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_allclose, state["batch_stats"], dict(changed["batch_stats"]))
    assert set(net.rebuild(net.params, net.state)) == set(variables)


def test_params_are_plain_string_paths():
    net = nets.from_nnx(Blocks(nnx.Rngs(0)))
    assert sorted(net.params["layers"]) == ["0", "1"]
    assert jax.tree.map(jnp.shape, net.params["layers"]["0"]) == {"bias": (4,), "kernel": (4, 4)}
