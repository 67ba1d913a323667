"""The zoo's networks have the published sizes, and a name leads to one."""

import sys

import jax
import numpy as np
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.nets import lowering


@pytest.mark.compat
@pytest.mark.parametrize(
    ("name", "weights", "everything"), [("lenet300", 266_200, 266_610), ("lenet5", 430_500, 431_080)]
)
def test_published_parameter_counts(name, weights, everything):
    leaves = jax.tree.leaves(nets.build(name).params)
    assert sum(leaf.size for leaf in leaves if leaf.ndim >= 2) == weights
    assert sum(leaf.size for leaf in leaves) == everything


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_uint8_pixels_mean_the_same_as_scaled_floats(name):
    net = nets.build(name)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    np.testing.assert_allclose(net(images), net((images / 255.0).astype(np.float32)), rtol=2e-5, atol=2e-5)


def test_lenet5_is_caffes_network():
    """Against a NumPy convolution written from the definition, one image."""
    net = nets.build("lenet5", seed=3)
    image = np.random.default_rng(1).random((28, 28, 1))

    def conv(x, layer):
        kernel, bias = np.asarray(layer["kernel"], np.float64), np.asarray(layer["bias"], np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
        return np.einsum("hwcij,ijco->hwo", windows, kernel) + bias

    def pool(x):
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))

    p = net.params
    x = pool(conv(pool(conv(image, p["conv1"])), p["conv2"])).reshape(-1)
    x = np.maximum(x @ np.asarray(p["ip1"]["kernel"]) + np.asarray(p["ip1"]["bias"]), 0)
    expected = x @ np.asarray(p["ip2"]["kernel"]) + np.asarray(p["ip2"]["bias"])
    np.testing.assert_allclose(net(image[None].astype(np.float32))[0], expected, rtol=1e-4, atol=1e-4)


def test_max_pool_equals_flax():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    np.testing.assert_array_equal(lowering.max_pool_2x2(x), nnx.max_pool(x, (2, 2), (2, 2)))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lenet30", "did you mean lenet300"),
        ("no_such_module:make", "no_such_module"),
        ("math:no_such_thing", "no_such_thing"),
        ("math:pi", "not callable"),
        ("builtins:dict", "gave a dict"),
        ("os:abort_not", "abort_not"),
    ],
)
def test_a_name_that_leads_nowhere_says_so(name, says):
    with pytest.raises(BadInput, match=says):
        nets.build(name)


def test_a_users_factory_is_found_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from flax import nnx\ndef make(seed=0):\n    return nnx.Linear(3, 2, rngs=nnx.Rngs(seed))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert nets.build("my_net:make", seed=4).params["kernel"].shape == (3, 2)
    with pytest.raises(BadInput, match="width"):
        nets.build("my_net:make", width=2)
