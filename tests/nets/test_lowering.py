"""Our lowering of convolution and pooling is XLA's, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.nets import lowering

NHWC = ("NHWC", "HWIO", "NHWC")
NTC = ("NTC", "TIO", "NTC")


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize(
    ("padding", "groups"), [("VALID", 1), ("SAME", 1), (((1, 2), (0, 1)), 1), ("SAME", 2), ("SAME", 6)]
)
def test_convolution_and_its_gradients_equal_xlas(padding, groups, strides):
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (4, 9, 8, 6)), jax.random.normal(keys[1], (3, 2, 6 // groups, 12))

    _check_against_xla(x, w, strides, padding, groups)


@pytest.mark.parametrize("size", [(3, 3), (2, 3), (1, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 0), (0, 1))])
def test_small_kernels_on_large_maps_too(size, padding):
    keys = jax.random.split(jax.random.key(0), 2)
    _check_against_xla(
        jax.random.normal(keys[0], (4, 9, 8, 10)), jax.random.normal(keys[1], (*size, 10, 7)), (1, 1), padding
    )


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((4, 0),)])
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_windows_too(padding, stride, groups):
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (4, 11, 6)), jax.random.normal(keys[1], (5, 6 // groups, 8))
    _check_against_xla(x, w, (stride,), padding, groups)


def _check_against_xla(x, w, strides, padding, groups=1):
    layout = NHWC if x.ndim == 4 else NTC

    def of(convolution):
        def weighted(x, w):
            out = convolution(x, w, strides, padding, dimension_numbers=layout, feature_group_count=groups)
            return (out * jax.random.normal(jax.random.key(2), out.shape)).sum(), out

        return jax.jit(jax.value_and_grad(weighted, (0, 1), has_aux=True))(x, w)

    ours, xlas = of(lowering.conv_general), of(jax.lax.conv_general_dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, xlas)


def test_gradients_of_windows_are_products():
    """A recurrent net's convolutions train inside a scan, where XLA's own gradients are slow on CPU."""
    x, w = jnp.zeros((4, 20, 8)), jnp.zeros((5, 8, 6))

    def loss(convolution, x, w):
        return convolution(x, w, (1,), "VALID", dimension_numbers=NTC).sum()

    def count(convolution):
        text = jax.jit(jax.grad(lambda x, w: loss(convolution, x, w), (0, 1))).lower(x, w).as_text()
        return text.count("stablehlo.convolution")

    assert count(lowering.conv_general) == 0 < count(jax.lax.conv_general_dilated)


def test_convolution_alone_is_xlas_own():
    """Without a derivative the program is the one convolution, padding and all."""
    x, w = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    text = jax.jit(lambda x, w: lowering.conv_general(x, w, (1, 1), "SAME", dimension_numbers=NHWC)).lower(x, w)
    assert text.as_text().count("stablehlo.convolution") == 1
    assert "stablehlo.pad" not in text.as_text()


@pytest.mark.parametrize(("side", "kernel"), [(1, 3), (2, 3), (3, 5)])
def test_maps_smaller_than_the_kernel(side, kernel):
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (4, side, side, 6)), jax.random.normal(keys[1], (kernel, kernel, 6, 7))
    _check_against_xla(x, w, (1, 1), "SAME")

    def both(x):
        ours, xlas = (
            convolution(x, w, (1, 1), "SAME", dimension_numbers=NHWC)
            for convolution in (lowering.conv_general, jax.lax.conv_general_dilated)
        )
        return ours - xlas

    np.testing.assert_allclose(jax.vmap(both)(x[:, None]), 0, atol=1e-4)
    np.testing.assert_allclose(jax.jit(both)(x), 0, atol=1e-4)


def test_convolution_under_vmap_has_a_kernel_each():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernels = jax.random.normal(jax.random.key(1), (4, 3, 3, 3, 5))

    def one(w):
        return lowering.conv_general(x, w, (2, 2), "SAME", dimension_numbers=NHWC)

    np.testing.assert_allclose(jax.vmap(one)(kernels), jnp.stack([one(w) for w in kernels]), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(4, 9), st.integers(4, 9)),
    st.integers(2, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
)
def test_max_pool_is_the_maximum_of_every_window(image, size, stride, padding, ceil):
    """The definition, place by place: a window counts if it starts inside the image or the padding before it."""
    x = np.random.default_rng(0).normal(size=(2, *image, 3)).astype(np.float32)

    def starts(length):
        whole = range(-padding, length + padding - size + 1, stride)
        more = whole[-1] + stride
        return [*whole, more] if ceil and more < length and whole[-1] + size < length + padding else list(whole)

    def window(i, j):
        rows = slice(max(i, 0), min(i + size, image[0]))
        return x[:, rows, max(j, 0) : min(j + size, image[1])].max((1, 2))

    expected = [[window(i, j) for j in starts(image[1])] for i in starts(image[0])]
    ours = lowering.max_pool(x, size, stride, padding=padding, ceil=ceil)
    np.testing.assert_array_equal(ours, np.stack([np.stack(row, 1) for row in expected], 1))


def test_mean_pool_is_the_mean_of_every_window():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    expected = x[:, :6].reshape(2, 3, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(lowering.mean_pool_2x2(x), expected, rtol=1e-5)
