"""A mask by ranks keeps exactly the best; masks survive the disk and a user's own optax loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import groups, masks, scores

PARAMS = nets.build("lenet300").params
GROUPS = groups.weight_groups(PARAMS)
RANKS = masks.ranks(scores.magnitude(PARAMS, GROUPS))


@pytest.mark.compat
@settings(deadline=None, max_examples=100)
@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=40), data=st.data())
def test_strongest_is_what_ranks_say_ties_included(values, data):
    score = jnp.asarray(values, jnp.float32) / 3
    kept = data.draw(st.integers(0, len(values)))
    (rank,) = masks.ranks((score,))
    np.testing.assert_array_equal(rank, np.argsort(np.argsort(score, kind="stable"), kind="stable"))
    np.testing.assert_array_equal(masks.strongest(score, kept), rank >= len(values) - kept)


@pytest.mark.compat
@pytest.mark.parametrize("kept", [(1, 1, 1), (5000, 300, 77), (235_500, 30_100, 1_010)])
def test_counts_are_exact_and_the_kept_are_the_largest(kept):
    mask = masks.from_kept(PARAMS, GROUPS, RANKS, jnp.asarray(kept))
    assert tuple(masks.kept_counts(mask, GROUPS)) == kept
    for group in GROUPS:
        size, flag = np.abs(groups.gather(PARAMS, group)), np.asarray(groups.gather(mask, group))
        assert size[flag].min() >= size[~flag].max(initial=0)


def test_masks_have_the_tree_of_params_and_broadcast():
    whole = masks.full(PARAMS)
    assert jax.tree.structure(whole) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, masks.apply(PARAMS, whole), PARAMS)


def test_from_kept_lifts_over_candidates():
    kept = jnp.asarray([[10, 20, 30], [40, 50, 60]])
    lifted = jax.vmap(lambda k: masks.from_kept(PARAMS, GROUPS, RANKS, k))(kept)
    for row in range(2):
        single = masks.from_kept(PARAMS, GROUPS, RANKS, kept[row])
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf, r=row: leaf[r], lifted), single)


@pytest.mark.compat
def test_keep_holds_pruned_weights_at_zero_under_adamw():
    mask = masks.from_kept(PARAMS, GROUPS, RANKS, jnp.asarray([500, 100, 50]))
    params = masks.apply(PARAMS, mask)
    optimizer = optax.chain(optax.adamw(1e-2, weight_decay=0.1), masks.keep(mask))
    state = optimizer.init(params)
    for step in range(3):
        gradient = jax.tree.map(lambda leaf, s=step: jnp.sin(leaf * 9 + s), params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True)]
    assert sum(changed) >= 3  # the kernels; fresh biases are zero, rank lowest and stay pruned
    jax.tree.map(lambda leaf, flag: np.testing.assert_array_equal(np.asarray(leaf)[~np.asarray(flag)], 0), params, mask)


@pytest.mark.compat
def test_keep_serves_an_nnx_optimizer():
    model = nnx.Sequential(nnx.Linear(5, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
    params = nets.from_nnx(model).params
    found = groups.weight_groups(params)
    mask = masks.from_kept(params, found, masks.ranks(scores.magnitude(params, found)), jnp.asarray([9, 4]))
    optimizer = nnx.Optimizer(model, optax.chain(optax.adamw(0.1), masks.keep(mask)), wrt=nnx.Param)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)
    before = nets.from_nnx(model).params
    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda net: (net(x) ** 2).sum())(model))
    after = nets.from_nnx(model).params
    for old, new, flag in zip(*map(jax.tree.leaves, (before, after, mask)), strict=True):
        np.testing.assert_array_equal(np.asarray(old)[~np.asarray(flag)], np.asarray(new)[~np.asarray(flag)])
        assert not np.array_equal(old, new) or not np.asarray(flag).any()


def test_keep_refuses_parameters_without_a_mask():
    mask = masks.full({"one": jnp.ones(3)})
    optimizer = masks.keep(mask)
    with pytest.raises(BadInput, match="parameter two has no mask"):
        optimizer.update({"two": jnp.ones(3)}, optimizer.init({"two": jnp.ones(3)}))


def test_masks_survive_the_disk(tmp_path):
    mask = masks.from_kept(PARAMS, GROUPS, RANKS, jnp.asarray([500, 100, 50]))
    masks.save_masks(tmp_path / "net.masks", mask)
    assert (tmp_path / "net.masks").stat().st_size < 266_610 / 8 + 3000
    jax.tree.map(np.testing.assert_array_equal, masks.load_masks(tmp_path / "net.masks", PARAMS), mask)


def test_masks_of_another_net_are_refused(tmp_path):
    masks.save_masks(tmp_path / "net.masks", masks.from_kept(PARAMS, GROUPS, RANKS, jnp.asarray([9, 9, 9])))
    with pytest.raises(BadInput, match="another net"):
        masks.load_masks(tmp_path / "net.masks", nets.build("lenet5").params)
    with pytest.raises(BadInput, match="another net"):
        masks.load_masks(tmp_path / "net.masks", jax.tree.map(lambda leaf: leaf[:5], PARAMS))
