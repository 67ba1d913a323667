"""Recovery against its rule written in NumPy (Guo et al. 2016; Li et al. 2018)."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import nets
from jax_prune.pruning import groups, masks, recovery, scores

PARAMS = nets.build("lenet300").params
LATER = jax.tree.map(lambda leaf: leaf + 0.05 * jnp.sin(37 * leaf), PARAMS)
GROUPS = groups.weight_groups(PARAMS)
KEPT = jnp.asarray([5000, 700, 90])
BEFORE = masks.from_kept(PARAMS, GROUPS, masks.ranks(scores.magnitude(PARAMS, GROUPS)), KEPT)


def numpy_gather(tree, group):
    return np.asarray(groups.gather(tree, group))


def test_threshold_is_the_last_kept_magnitude():
    for index, group in enumerate(GROUPS):
        ordered = np.sort(np.abs(numpy_gather(PARAMS, group)))[::-1]
        assert recovery.thresholds(PARAMS, GROUPS, KEPT)[index] == ordered[int(KEPT[index]) - 1]


def test_hysteresis_prunes_below_and_returns_above_the_band():
    t = recovery.thresholds(PARAMS, GROUPS, KEPT)
    after = recovery.hysteresis(jax.random.key(0), LATER, BEFORE, GROUPS, t, jnp.float32(1.0))
    changes = 0
    for index, group in enumerate(GROUPS):
        size, old = np.abs(numpy_gather(LATER, group)), numpy_gather(BEFORE, group)
        expected = np.where(old, size > np.float32(0.9) * t[index], size > np.float32(1.1) * t[index])
        np.testing.assert_array_equal(numpy_gather(after, group), expected)
        changes += (expected != old).sum()
    assert changes > 0


def test_probability_zero_changes_nothing():
    t = recovery.thresholds(PARAMS, GROUPS, KEPT)
    after = recovery.hysteresis(jax.random.key(0), LATER, BEFORE, GROUPS, t, jnp.zeros(3))
    assert not recovery.returned(BEFORE, after, GROUPS).any()
    assert (masks.kept_counts(after, GROUPS) == np.asarray(KEPT)).all()


def test_reselection_has_the_searched_counts_and_counts_what_returned():
    after = recovery.reselect(LATER, scores.magnitude(LATER, GROUPS), GROUPS, KEPT)
    assert (masks.kept_counts(after, GROUPS) == np.asarray(KEPT)).all()
    back = recovery.returned(BEFORE, after, GROUPS)
    by_hand = [(~numpy_gather(BEFORE, group) & numpy_gather(after, group)).sum() for group in GROUPS]
    np.testing.assert_array_equal(back, by_hand)
    assert back[0] > 0
