"""Whole blocks of output channels: the values of the function, from convolutions of a multiple of 64 channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import nets
from jax_prune.nets.blocks import whole_blocks

RNG = np.random.default_rng(0)


def convolution(images, kernel, layout=("NHWC", "HWIO", "NHWC"), groups=1):
    return jax.lax.conv_general_dilated(
        images, kernel, (2, 1), "SAME", dimension_numbers=layout, feature_group_count=groups
    )


def widths(function, *inputs):
    """Output channels of every convolution, by its kernel's layout."""
    equations = jax.make_jaxpr(function)(*inputs).jaxpr.eqns
    return [
        e.invars[1].aval.shape[e.params["dimension_numbers"].rhs_spec[0]]
        for e in equations if e.primitive.name == "conv_general_dilated"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "channels, found", [(1, 1), (20, 20), (48, 48), (49, 64), (50, 64), (63, 64), (64, 64), (65, 65), (120, 128)]
)
def test_a_last_block_that_lacks_a_few_channels_is_filled(channels, found):
    images, kernel = RNG.normal(size=(2, 6, 7, 3)), RNG.normal(size=(3, 3, 3, channels))
    images, kernel = images.astype(np.float32), kernel.astype(np.float32)
    filled = whole_blocks(convolution)
    assert widths(filled, images, kernel) == [found]
    np.testing.assert_allclose(filled(images, kernel), convolution(images, kernel), rtol=1e-5, atol=1e-5)


def test_whatever_the_layout():
    images, kernel = RNG.normal(size=(2, 3, 6, 7)), RNG.normal(size=(50, 3, 3, 3))
    images, kernel = images.astype(np.float32), kernel.astype(np.float32)
    filled = whole_blocks(convolution)
    assert widths(lambda *given: filled(*given, layout=("NCHW", "OIHW", "NCHW")), images, kernel) == [64]
    found = filled(images, kernel, layout=("NCHW", "OIHW", "NCHW"))
    np.testing.assert_allclose(
        found, convolution(images, kernel, layout=("NCHW", "OIHW", "NCHW")), rtol=1e-5, atol=1e-5
    )


def test_grouped_convolutions_stay():
    images, kernel = jnp.ones((2, 6, 7, 10)), jnp.ones((3, 3, 1, 50))
    assert widths(lambda *given: whole_blocks(convolution)(*given, groups=10), images, kernel) == [50]


def test_lenet5_under_vmap():
    net, images = nets.build("lenet5"), RNG.integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    filled = whole_blocks(net.apply)
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), net.params)
    outputs, _ = jax.vmap(lambda params: filled(params, net.state, images, train=False, key=None))(several)
    np.testing.assert_allclose(outputs[0], net(images), rtol=1e-4, atol=1e-5)
    assert filled == whole_blocks(net.apply) and hash(filled) == hash(whole_blocks(net.apply))
