"""Where units sit: channel masks are what removing the units by hand leaves, and makers are told from users."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import storage
from jax_prune.pruning import channels, masks, units
from jax_prune.types import Group, Slot


def chosen(groups, seed):
    """Flags of the units that stay, at least one of each group gone and one left."""
    rng = np.random.default_rng(seed)
    flags = []
    for group in groups:
        flag = rng.random(group.size) < 0.6
        flag[rng.permutation(group.size)[:2]] = [True, False]
        flags.append(flag)
    return flags


def narrow(tree, groups, flags):
    """The tree with the units removed, one after the other, by NumPy."""
    flat = {path: np.asarray(leaf) for path, leaf in storage.flatten_paths(tree).items()}
    gone = {}
    for group, flag in zip(groups, flags, strict=True):
        for slot in group.slots:
            dead = [s + u * slot.step for u in np.flatnonzero(~flag) for s in slot.starts]
            gone.setdefault((slot.path, slot.axis), []).extend(dead)
    for (path, axis), dead in gone.items():
        if path in flat:
            flat[path] = np.delete(flat[path], dead, axis)
    return storage.unflatten_paths(flat)


@pytest.mark.compat
@pytest.mark.parametrize("train", [False, True])
def test_masked_is_what_is_left_when_the_units_are_removed(architecture, train):
    """The law of channel masks, consumers' rows included."""
    groups, net = architecture.groups(architecture.widths), architecture.net()
    flags = chosen(groups, 3)
    found = masks.scatter(masks.full(net.params), net.params, groups, [jnp.asarray(flag) for flag in flags])
    x = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
    masked, _ = net.apply(masks.apply(net.params, found), net.state, x, train=train, key=None)
    smaller = architecture.net([int(flag.sum()) for flag in flags])
    params, state = (jax.tree.map(jnp.asarray, narrow(tree, groups, flags)) for tree in (net.params, net.state))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, smaller.params)
    compact, _ = smaller.apply(params, state, x, train=train, key=None)
    np.testing.assert_allclose(masked, compact, rtol=2e-4, atol=2e-5)
    dense, _ = net.apply(net.params, net.state, x, train=train, key=None)
    assert np.abs(np.asarray(dense - masked)).max() > 1e-2


def test_masks_broadcast_vmap_and_leave_other_leaves_alone(architecture):
    groups, net = architecture.groups(architecture.widths), architecture.net()
    ranks = [np.random.default_rng(0).permutation(group.size).astype(np.int32) for group in groups]
    kept = np.stack([[1] * len(groups), [group.size for group in groups]]).astype(np.int32)
    found = jax.vmap(lambda kept: masks.from_kept(net.params, groups, ranks, kept))(kept)
    for leaf, mask in zip(jax.tree.leaves(net.params), jax.tree.leaves(found), strict=True):
        few, all_ = np.broadcast_to(mask[0], leaf.shape), mask[1] if mask.shape[0] == 2 else mask
        assert np.asarray(all_).all() and few.any()
    for group, rank in zip(groups, ranks, strict=True):
        for slot in units.slots(units.shapes_of(net.params), group):
            mask = storage.flatten_paths(found)[slot.path][0]
            line = np.moveaxis(np.broadcast_to(mask, storage.flatten_paths(net.params)[slot.path].shape), slot.axis, 0)
            alive = line.reshape(len(line), -1).any(1)[channels.positions(slot, group.size)]
            np.testing.assert_array_equal(alive, np.repeat((rank == group.size - 1)[:, None], len(slot.starts), 1))


def test_makers_are_told_from_users(architectures):
    def split(name):
        architecture = architectures[name]
        shapes = units.shapes_of(architecture.net().params)
        return [
            {(slot.path, slot.axis) for slot in units.slots(shapes, group) if not units.makes(slot, shapes)}
            for group in architecture.groups(architecture.widths)
        ]

    assert split("plain") == [{("conv2/kernel", 2)}, {("ip1/kernel", 0)}, {("ip2/kernel", 0)}]
    assert split("residual") == [{("conv1/kernel", 2), ("head/kernel", 0)}, {("conv2/kernel", 2)}]
    assert split("depthwise") == [{("join/kernel", 2)}, {("join/kernel", 2)}, {("head/kernel", 0)}]
    assert split("recurrent") == [{("rnn/cell/dense_h/kernel", 0), ("head/kernel", 0)}]
    heads = {"query/kernel": (16, 4, 8), "out/kernel": (4, 8, 16)}
    assert units.makes(Slot("query/kernel", 1), heads) and not units.makes(Slot("out/kernel", 0), heads)


def test_sums_are_of_all_entries_of_a_unit():
    leaf = np.random.default_rng(0).normal(size=(4, 12, 2))
    slot = Slot("kernel", 1, (0, 6), 2)
    expected = [sum(leaf[:, s + 2 * u].sum() for s in (0, 6)) for u in range(3)]
    np.testing.assert_allclose(units.summed(jnp.asarray(leaf), slot, 3), expected, rtol=1e-5)
    assert Group("a", 3, (slot,)).size == len(channels.positions(slot, 3))
