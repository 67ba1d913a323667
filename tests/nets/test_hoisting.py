"""What comes before the first parameter, done once: the same outputs, and the first product where there is one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.nets import hoisting

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)).astype(np.uint8)


class Shared(nnx.Module):
    """One kernel that two products use: its first is not the layer's alone."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.layer = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x):
        return self.layer(self.layer(x))


class Reused(nnx.Module):
    """The input goes by the first layer as well."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x):
        x = x * 2
        return self.first(x) + x


def outputs(hoisted, net, x):
    return hoisted.apply(net.params, net.state, hoisted.prefix(x), train=False, key=None)[0]


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_outputs_are_the_nets(name):
    net = nets.build(name)
    hoisted = hoisting.hoist(net, IMAGES)
    np.testing.assert_allclose(outputs(hoisted, net, IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)
    (value,) = hoisted.prefix(IMAGES)
    assert value.dtype == jnp.float32 and float(value.max()) <= 1  # pixels are scaled once, not in every candidate


def test_what_follows_the_first_product():
    net = nets.build("lenet300")
    hoisted = hoisting.hoist(net, IMAGES)
    first = hoisting.first_product(hoisted, net.params)
    values = hoisted.prefix(IMAGES)
    product = values[first.place] @ net.params["ip1"]["kernel"]
    emptied = {**net.params, "ip1": {**net.params["ip1"], "kernel": jnp.zeros((784, 300))}}
    assert first.path == "ip1/kernel"
    found = first.apply(emptied, net.state, values, product)  # the kernel itself is not read any more
    np.testing.assert_allclose(found, net(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [Shared, Reused])
def test_no_first_product_where_input_or_kernel_serve_twice(module):
    net, x = nets.from_nnx(module(rngs=nnx.Rngs(0))), np.ones((3, 6), np.float32)
    hoisted = hoisting.hoist(net, x)
    assert hoisting.first_product(hoisted, net.params) is None
    np.testing.assert_allclose(outputs(hoisted, net, x), net(x), rtol=1e-5)


def test_no_first_product_before_a_convolution():
    net = nets.build("lenet5")
    assert hoisting.first_product(hoisting.hoist(net, IMAGES), net.params) is None


def test_equal_for_other_weights_and_different_for_other_shapes():
    one, two = (hoisting.hoist(nets.build("lenet300", seed), IMAGES) for seed in (0, 1))
    assert one == two and hash(one) == hash(two)
    assert one != hoisting.hoist(nets.build("lenet300"), IMAGES[:2])


def test_batch_statistics_and_parameters_stay_arguments():
    class Normed(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.first = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return self.first(self.norm(x.reshape(len(x), -1)))

    net, x = nets.from_nnx(Normed(rngs=nnx.Rngs(0))), np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
    net = net.replace(state=jax.tree.map(lambda leaf: leaf + 1, net.state))
    hoisted = hoisting.hoist(net, x)
    np.testing.assert_allclose(outputs(hoisted, net, x), net(x), rtol=1e-5)
    assert hoisting.first_product(hoisted, net.params) is None  # the norm's scale comes first
