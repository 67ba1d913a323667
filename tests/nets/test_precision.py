"""Products in bfloat16, wherever they stand in a program, and all else as it was."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.nets.precision import bfloat16_products

RNG = np.random.default_rng(0)
X, W = (RNG.normal(size=shape).astype(np.float32) for shape in ((5, 6), (6, 6)))


def products(function, *inputs):
    """Operand types of every product, loops and branches included."""
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                found.extend(str(atom.aval.dtype) for atom in equation.invars)
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(function)(*inputs).jaxpr)
    return found


def plain(x, w):
    return jax.nn.relu(x @ w) @ w


def scanned(x, w):
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=3)[0]


def branched(x, w):
    return jax.lax.cond(x[0, 0] > -9, lambda: x @ w, lambda: x)


def looped(x, w):
    return jax.lax.fori_loop(0, jnp.int32(2), lambda _, x: jax.nn.gelu(x @ w), x)


def checkpointed(x, w):
    return jax.checkpoint(plain)(x, w)


def jitted(x, w):
    return jax.jit(plain)(x, w) + jax.nn.softmax(x @ w)


@pytest.mark.parametrize("function", [plain, scanned, branched, looped, checkpointed, jitted], ids=lambda f: f.__name__)
def test_every_product_takes_bfloat16_and_gives_about_the_same(function):
    rounded = bfloat16_products(function)
    assert products(rounded, X, W) == ["bfloat16"] * len(products(function, X, W)) != []
    before, after = function(X, W), jax.jit(rounded)(X, W)
    assert after.dtype == jnp.float32 and after.shape == before.shape
    assert 0 < jnp.abs(after - before).max() < 0.1 * jnp.abs(before).max()


def test_a_product_is_that_of_rounded_operands_summed_and_rounded_once():
    x, w = (np.asarray(jnp.asarray(value, jnp.bfloat16)).astype(np.float64) for value in (X, W))
    expected = (x @ w).astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_allclose(bfloat16_products(jnp.matmul)(X, W), expected, rtol=2**-7, atol=2**-10)


def test_without_products_nothing_changes():
    for function in (jax.nn.softmax, lambda x: jnp.cumsum(x / 3, axis=0), lambda x: (x > 0, x.argmax(1))):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), bfloat16_products(function)(X), function(X))


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_the_zoo_under_vmap(name):
    net = nets.build(name)
    images = RNG.integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    rounded = bfloat16_products(net.apply)
    outputs, state = jax.vmap(lambda p: rounded(p, net.state, images, train=False, key=None))(
        jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), net.params)
    )
    assert outputs.dtype == jnp.float32 and state == net.state
    np.testing.assert_allclose(outputs[0], net(images), rtol=0.1, atol=0.1)
    assert rounded == bfloat16_products(net.apply) and hash(rounded) == hash(bfloat16_products(net.apply))


def test_recurrence_and_batch_statistics():
    class Recurrent(nnx.Module):
        def __init__(self, *, rngs):
            self.cell = nnx.RNN(nnx.GRUCell(6, 4, rngs=rngs))
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.cell(x))

    net = nets.from_nnx(Recurrent(rngs=nnx.Rngs(0)))
    x = RNG.normal(size=(2, 7, 6)).astype(np.float32)
    outputs, _ = bfloat16_products(net.apply)(net.params, net.state, x, train=False, key=None)
    np.testing.assert_allclose(outputs, net(x), atol=0.05)
    assert not np.array_equal(outputs, net(x))
