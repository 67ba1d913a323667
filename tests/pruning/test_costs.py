"""Costs against hand formulas; the packed-size model against what its encodings take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import costs, groups, masks, scores, wide
from jax_prune.types import Net

IMAGE = jnp.zeros((1, 28, 28, 1))


@pytest.mark.compat
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet300", {"ip1/kernel": 235_200, "ip2/kernel": 30_000, "ip3/kernel": 1_000}),
        ("lenet5", {"conv1/kernel": 288_000, "conv2/kernel": 1_600_000, "ip1/kernel": 400_000, "ip2/kernel": 5_000}),
    ],
)
def test_published_macs(name, expected):
    assert costs.macs(nets.build(name), IMAGE) == expected


def test_patches_and_convolution_count_the_same():
    """A convolution written as a matrix product of patches, its kernel reshaped and masked."""
    kernel = jnp.ones((3, 3, 2, 5))

    def plain(p, s, x, *, train, key):
        return jax.lax.conv_general_dilated(x, p["k"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")), s

    def patches(p, s, x, *, train, key):
        windows = [x[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
        masked = jnp.where(p["k"] > 0, p["k"], 0) * jnp.ones_like(p["k"])
        return jnp.concatenate(windows, -1).reshape(-1, 18) @ masked.reshape(18, 5), s

    found = [costs.macs(Net({"k": kernel}, {}, f, lambda p, s: None), jnp.ones((1, 8, 8, 2))) for f in (plain, patches)]
    assert found[0] == found[1] == {"k": 36 * 90}


def test_scans_are_multiplied_out_and_grouped_convolutions_divided():
    class Recurrent(nnx.Module):
        def __init__(self, rngs):
            self.cell = nnx.GRUCell(3, 4, rngs=rngs)
            self.rnn = nnx.RNN(self.cell)

        def __call__(self, x):
            return self.rnn(x)

    found = costs.macs(nets.from_nnx(Recurrent(nnx.Rngs(0))), jnp.ones((1, 7, 3)))
    assert sum(found.values()) == 7 * (3 * 12 + 4 * 12)
    depthwise = nnx.Conv(6, 6, (3, 3), feature_group_count=6, padding="SAME", rngs=nnx.Rngs(0))
    assert costs.macs(nets.from_nnx(depthwise), jnp.ones((1, 5, 5, 6))) == {"kernel": 25 * 9 * 6}


def test_a_while_loop_and_a_batch_of_two_are_refused():
    def loops(p, s, x, *, train, key):
        return jax.lax.while_loop(lambda v: v.sum() < 3, lambda v: v @ p["k"], x), s

    with pytest.raises(BadInput, match="while loop"):
        costs.macs(Net({"k": jnp.eye(2)}, {}, loops, lambda p, s: None), jnp.ones((1, 2)))
    with pytest.raises(BadInput, match="leading lengths"):
        costs.macs(nets.build("lenet300"), jnp.zeros((2, 28, 28, 1)))


def test_kept_macs_count_kept_weights_products():
    net = nets.build("lenet5")
    parts = groups.weight_groups(net.params, biases=False)
    mask = masks.from_kept(
        net.params, parts, masks.ranks(scores.magnitude(net.params, parts)), jnp.asarray([68, 189, 813, 369])
    )
    assert costs.kept_macs(net, mask, IMAGE) == 68 * 24 * 24 + 189 * 8 * 8 + 813 + 369
    assert costs.kept_macs(net, masks.full(net.params), IMAGE) == 2_293_000


@pytest.mark.compat
def test_parameters_with_and_without_biases():
    net = nets.build("lenet300")
    assert costs.parameters(net.params) == (266_200, 266_200, 266_610, 266_610)
    parts = groups.weight_groups(net.params)
    mask = masks.from_kept(
        net.params, parts, masks.ranks(scores.magnitude(net.params, parts)), jnp.asarray([5, 6, 1010])
    )
    counted = costs.parameters(net.params, mask)
    assert counted.all_kept == 1021 and counted.weights_kept <= 1011  # fresh biases are zero, and rank lowest


@settings(deadline=None, max_examples=80)
@given(size=st.integers(0, 3000), density=st.sampled_from([0, 0.001, 0.02, 0.1, 0.5, 0.95, 1]), seed=st.integers(0, 9))
def test_exact_size_is_within_the_bound_and_is_the_least(size, density, seed):
    mask = np.random.default_rng(seed).random(size) < density
    kept, found = int(mask.sum()), costs.packed_size(mask)
    assert found.bytes <= int(wide.to_numpy(costs.packed_bound(size, kept)))
    assert found.bytes <= min(4 * size, -(-size // 8) + 4 * kept)
    digits = sum(gap // 255 + 1 for gap in np.diff(np.flatnonzero(mask), prepend=-1) - 1)
    assert found.bytes <= digits + 4 * kept


@pytest.mark.compat
@settings(deadline=None, max_examples=80)
@given(
    size=st.integers(1, 2**31 - 1), share=st.sampled_from([0, 0.001, 0.01, 0.2, 0.96, 0.97, 1]), less=st.integers(0, 9)
)
def test_the_bound_is_exact_at_any_size(size, share, less):
    kept = max(int(size * share) - less, 0)
    positions = min(kept + size // 255, (kept + size // 15 + 1) // 2, -(-size // 8))
    expected = min(4 * size, 4 * kept + positions)
    found = costs.packed_bound(size, jnp.int32(kept))
    assert int(wide.to_numpy(found)) == expected
    assert float(wide.to_float(found)) == pytest.approx(expected, rel=2e-7)
