"""Scores of channels against loops over units in NumPy; groups that a score cannot serve are named."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.pruning import channel_scores, masks, units
from jax_prune.types import Group, Slot


def leaves(tree):
    return {path: np.asarray(leaf, np.float64) for path, leaf in storage.flatten_paths(tree).items()}


def entries(flat, slot, unit):
    """Every entry of a unit in one slot's leaf, one position after the other."""
    return np.concatenate([np.take(flat[slot.path], s + unit * slot.step, slot.axis).ravel() for s in slot.starts])


def looped(flat, groups, wanted, of):
    """``of`` all entries of a unit in the slots whose (path, axis) are ``wanted(group)``."""
    found = []
    for group in groups:
        slots = [slot for slot in group.slots if slot.path in flat and wanted(group, slot)]
        rows = [np.concatenate([entries(flat, slot, unit) for slot in slots]) for unit in range(group.size)]
        found.append(np.asarray([of(row) for row in rows]))
    return found


USED = {
    "plain": {("conv2/kernel", 2), ("ip1/kernel", 0), ("ip2/kernel", 0)},
    "residual": {("conv1/kernel", 2), ("head/kernel", 0), ("conv2/kernel", 2)},
    "depthwise": {("join/kernel", 2), ("head/kernel", 0)},
    "recurrent": {("rnn/cell/dense_h/kernel", 0), ("head/kernel", 0)},
}


@pytest.fixture(params=USED)
def case(request, architectures):
    architecture = architectures[request.param]
    return request.param, architecture.net().params, architecture.groups(architecture.widths)


def same(found, expected):
    for score, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(score, wanted, rtol=2e-5)


@pytest.mark.parametrize("exponent", [1, 2])
def test_magnitude_is_the_norm_of_all_kernels_that_make_a_unit(case, exponent):
    name, params, groups = case

    def makes(group, slot):
        return slot.path.endswith("kernel") and (slot.path, slot.axis) not in USED[name]

    expected = looped(leaves(params), groups, makes, lambda row: np.linalg.norm(row, exponent))
    same(channel_scores.magnitude(params, groups, exponent), expected)


@pytest.mark.parametrize("exponent", [1, 2])
def test_group_magnitude_is_torch_prunings(case, exponent):
    """Powers of all but biases, a mean over the group's layers, over the mean of its units."""
    name, params, groups = case
    del name
    flat = leaves(params)
    expected = []
    for group in groups:
        layers = [slot for slot in group.slots if slot.path in flat and not slot.path.endswith("bias")]
        each = [
            [(np.abs(entries(flat, slot, unit)) ** exponent).sum() for unit in range(group.size)] for slot in layers
        ]
        power = np.mean(each, axis=0)
        expected.append(power / power.mean())
    same(channel_scores.group_magnitude(params, groups, exponent), expected)


def test_norm_scales_are_averaged_where_channels_are_joined(architectures):
    for name in ("plain", "residual"):
        architecture = architectures[name]
        params, groups = architecture.net().params, architecture.groups(architecture.widths)
        groups = tuple(group for group in groups if group.name != "ip1")
        expected = looped(leaves(params), groups, lambda group, slot: slot.path.endswith("scale"), np.mean)
        same(channel_scores.norm_scale(params, groups), expected)
    negative = jax.tree.map(jnp.negative, params)
    same(channel_scores.norm_scale(negative, groups), expected)


def test_a_group_without_a_norm_is_named(architectures):
    architecture = architectures["plain"]
    params, groups = architecture.net().params, architecture.groups(architecture.widths)
    with pytest.raises(BadInput, match="group ip1 has no norm"):
        channel_scores.norm_scale(params, groups)


def test_taylor_is_the_squared_slope_of_a_gate_on_each_unit(architectures):
    """The gate itself, differentiated: behind the norm, or on kernel and bias where there is none."""
    for name, gated in (
        ("plain", [("bn1/scale", "bn1/bias"), ("bn2/scale", "bn2/bias"), ("ip1/kernel", "ip1/bias")]),
        ("depthwise", [None, ("side/kernel", "side/bias"), ("join/kernel", "join/bias")]),
    ):
        architecture = architectures[name]
        net, groups = architecture.net(), architecture.groups(architecture.widths)
        x = jax.random.normal(jax.random.key(1), (5, 8, 8, 3))

        def loss(params, net=net, x=x):
            return jnp.mean(net.apply(params, net.state, x, train=False, key=None)[0] ** 2)

        gradient = jax.grad(loss)(net.params)
        found = channel_scores.taylor(net.params, gradient, groups)
        for group, places, score in zip(groups, gated, found, strict=True):
            if places is None:
                continue

            def with_gates(gates, net=net, places=places, loss=loss):
                flat = storage.flatten_paths(net.params)
                return loss(storage.unflatten_paths(flat | {path: flat[path] * gates for path in places}))

            slope = jax.grad(with_gates)(jnp.ones(group.size))
            np.testing.assert_allclose(score, np.asarray(slope) ** 2, rtol=1e-3, atol=1e-10)
            assert np.ptp(score) > 0


def test_taylor_sums_a_gate_over_joined_layers(architectures):
    architecture = architectures["residual"]
    net, groups = architecture.net(), architecture.groups(architecture.widths)
    slopes = jax.tree.map(lambda leaf: jnp.sin(13 * leaf) + 0.3, net.params)
    flat = {path: leaf * leaves(slopes)[path] for path, leaf in leaves(net.params).items()}
    norms = looped(flat, groups, lambda group, slot: slot.path.startswith("bn"), lambda row: row.sum() ** 2)
    same(channel_scores.taylor(net.params, slopes, groups), norms)


def test_lamp_is_its_formula(architectures):
    architecture = architectures["plain"]
    params, groups = architecture.net().params, architecture.groups(architecture.widths)
    scores = channel_scores.group_magnitude(params, groups)
    for found, score in zip(channel_scores.lamp(scores), scores, strict=True):
        score = np.asarray(score, np.float64)
        expected = [value / score[score >= value].sum() for value in score]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert found.max() == 1
        np.testing.assert_array_equal(masks.ranks((found,))[0], np.argsort(np.argsort(score)))


def test_noise_follows_the_key(architectures):
    groups = architectures["plain"].groups((6, 8, 10))
    first, again, other = (channel_scores.random(jax.random.key(seed), groups) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[2], again[2])
    assert not np.array_equal(first[2], other[2]) and [len(score) for score in first] == [6, 8, 10]


def test_bad_input_is_one_line():
    params = {"a": {"kernel": jnp.full((3, 4), jnp.nan)}, "b": {"kernel": jnp.ones((4, 2))}}
    group = Group("a", 4, (Slot("a/kernel", 1), Slot("b/kernel", 0)))
    with pytest.raises(BadInput, match="group a has NaN"):
        channel_scores.magnitude(params, [group])
    users = Group("a", 4, (Slot("b/kernel", 0),))
    for score in (channel_scores.magnitude, lambda p, g: channel_scores.taylor(p, p, g)):
        with pytest.raises(BadInput, match="group a has no"):
            score(params, [users])
    with pytest.raises(BadInput, match="exponent 1 or 2, not 3"):
        channel_scores.magnitude(params, [group], 3)
    assert len(units.slots(units.shapes_of(params), group)) == 2
