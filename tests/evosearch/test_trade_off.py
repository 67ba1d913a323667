"""What a trade-off asks of a network: its objectives against NumPy, leaf by leaf."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.pruning import costs, masks, wide
from jax_prune.types import Group, Slot

SIZES = (84, 104, 36)
ratio_vectors = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def masked(problem, loss, metric) -> Any:
    return evosearch.masked_loss(*problem, loss, metric)


@pytest.fixture(scope="module")
def objectives(masked) -> Any:
    ready = [evosearch.kept_parameters(masked), evosearch.kept_macs(masked), evosearch.packed_bytes(masked)]
    return evosearch.trade_off(masked, ready)


judged = jax.jit(lambda objectives, genome: objectives(genome)[0])


@settings(deadline=None, max_examples=25)
@given(ratio_vectors)
def test_values_are_those_of_the_masks(problem, masked, objectives, oracle, ratios):
    genome = jnp.asarray(ratios, jnp.float32)
    kept = [size - int(float(ratio) * size) for ratio, size in zip(np.asarray(genome, np.float64), SIZES, strict=True)]
    np.testing.assert_array_equal(objectives.kept(genome), kept)
    found = masks.from_kept(problem.net.params, problem.groups, masked.ranks, jnp.asarray(kept))
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(found)]
    example = jnp.asarray(problem.batch.x[:1])
    expected = [
        oracle(problem, kept)[0],
        costs.parameters(problem.net.params, found).all_kept / sum(SIZES),
        costs.kept_macs(problem.net, found, example) / sum(costs.macs(problem.net, example).values()),
        sum(int(wide.to_numpy(costs.packed_bound(leaf.size, int(leaf.sum())))) for leaf in leaves) / (4 * sum(SIZES)),
    ]
    np.testing.assert_allclose(judged(objectives, genome), expected, rtol=1e-4, atol=1e-5)


def test_the_dense_network_costs_all_and_the_metric_may_stand_for_the_loss(masked, objectives, oracle, problem):
    nothing = jnp.zeros(3)
    np.testing.assert_allclose(judged(objectives, nothing)[1:], 1, rtol=1e-6)
    by_metric = evosearch.trade_off(masked, [evosearch.kept_parameters(masked)], by_metric=True)
    half = jnp.full(3, 0.5)
    expected = 1 - oracle(problem, [42, 52, 18])[1]
    np.testing.assert_allclose(judged(by_metric, half)[0], expected, atol=1e-6)
    assert 0 < expected < 1


def test_groups_that_share_a_ratio_and_leaves_left_alone(problem, loss):
    """Two layers in one group, of which each entry costs what its own layer's does; the third is not pruned."""
    both = Group("both", 84 + 104, (*problem.groups[0].slots, Slot("two/kernel", starts=(84,)),
                                    Slot("two/bias", starts=(180,))))  # fmt: skip
    rank = np.random.default_rng(0).permutation(188).astype(np.int32)
    masked = evosearch.masked_loss(problem.net, [both], [rank], problem.batch, loss)
    kept = jnp.array([60])
    found = masks.from_kept(problem.net.params, [both], [rank], kept)
    example = jnp.asarray(problem.batch.x[:1])
    assert float(evosearch.kept_macs(masked)(kept)) == costs.kept_macs(problem.net, found, example)
    assert float(evosearch.kept_parameters(masked)(kept)) == 60 + 36
    unpruned = 4 * 36
    stored = [int(wide.to_numpy(costs.packed_bound(leaf.size, int(leaf.sum()))))
              for name in ("one", "two") for leaf in found[name].values()]  # fmt: skip
    assert float(evosearch.packed_bytes(masked)(kept)) == unpruned + sum(stored)


def test_a_cost_of_ones_own_and_new_weights_never_retrace(make, loss):
    traces = []

    def layers_alive(threshold, kept):
        traces.append(1)
        return jnp.sum(kept > threshold)

    for seed in range(3):
        masked = evosearch.masked_loss(*make(seed), loss)
        own = jax.tree_util.Partial(layers_alive, jnp.int32(seed))
        judged(evosearch.trade_off(masked, [own, jnp.max]), jnp.full(3, 0.5))
    assert len(traces) == 3 * 2 + 1  # each is asked for the dense network's twice; compiled once


def test_bad_input_is_one_line(problem, loss, masked):
    with pytest.raises(BadInput, match="at least one cost"):
        evosearch.trade_off(masked, [])
    with pytest.raises(BadInput, match="cost 1 of the dense network is 0"):
        evosearch.trade_off(masked, [jnp.sum, lambda kept: jnp.sum(kept) * 0])
    with pytest.raises(BadInput, match="cost 0 of the dense network is"):
        evosearch.trade_off(masked, [lambda kept: kept])
    with pytest.raises(BadInput, match="needs one"):
        evosearch.trade_off(evosearch.masked_loss(*problem, loss), [evosearch.kept_parameters(masked)], by_metric=True)
