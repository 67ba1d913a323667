"""Latency models: known weights come back, errors are those of networks left out, and what is chosen is measured."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_allocations, channel_budgets, channel_costs, latency
from jax_prune.types import Group, Slot

SIZES = (64, 128, 256)
SHAPES = {"a": (3, 64), "b": (64, 128), "c": (128, 256), "d": (256, 10)}
GROUPS = tuple(
    Group(name, size, (Slot(here, 1), Slot(there, 0)))
    for name, size, (here, there) in zip("abc", SIZES, ("ab", "bc", "cd"), strict=True)
)
PARAMETERS = channel_costs.priced(SHAPES, GROUPS, dict.fromkeys(SHAPES, 1), "parameters")
MACS = channel_costs.priced(SHAPES, GROUPS, dict(zip(SHAPES, (1024, 256, 64, 1), strict=True)), "MACs")
COSTS = (MACS, PARAMETERS)
WEIGHTS = np.asarray([2e-4, 3e-11, 5e-9])  # seconds: of a call, a product, a parameter


def true_seconds(kept):
    return float(WEIGHTS @ [1, *(channel_costs.spent(cost, kept) for cost in COSTS)])


def fitted(noise=0.0, count=12):
    kept = latency.spread(GROUPS, count)
    wobble = 1 + noise * np.random.default_rng(0).normal(size=count)
    return latency.fit(COSTS, kept, np.asarray([true_seconds(row) for row in kept]) * wobble, GROUPS)


def test_weights_of_exact_times_come_back():
    model = fitted()
    np.testing.assert_allclose(model.weights, WEIGHTS, rtol=1e-6)
    assert np.abs(model.errors).max() < 1e-6
    for kept in ([1, 1, 1], [10, 77, 200], SIZES):
        assert model.predicted(kept) == pytest.approx(true_seconds(kept), rel=1e-5)


def test_errors_are_of_networks_left_out():
    model, kept = fitted(noise=0.05), latency.spread(GROUPS, 12)
    for left_out in (0, 5, 11):
        rest = np.arange(12) != left_out
        other = latency.fit(COSTS, kept[rest], model.seconds[rest], GROUPS)
        error = other.predicted(kept[left_out]) / model.seconds[left_out] - 1
        assert model.errors[left_out] == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert 0.01 < np.abs(model.errors).mean() < 0.2


def test_weights_are_never_negative_so_that_more_channels_cost_more():
    kept = latency.spread(GROUPS, 12)
    falling = np.asarray([1e-3 - 1e-9 * channel_costs.spent(PARAMETERS, row) for row in kept])
    model = latency.fit(COSTS, kept, falling, GROUPS)
    assert (model.weights >= 0).all()
    assert model.predicted(SIZES) >= model.predicted([1, 1, 1])


def test_a_limit_of_seconds_is_kept_and_used_up():
    model = fitted()
    for seconds in (3e-4, 5e-4):
        kept = channel_allocations.uniform(GROUPS, (model.limit(seconds),), channel_budgets.anything(GROUPS))
        assert model.predicted(kept) <= seconds
        for row in np.eye(3, dtype=int):
            assert model.predicted(kept + row) > seconds


def test_spread_covers_narrow_and_wide():
    kept = latency.spread([group._replace(step=8) for group in GROUPS], 10)
    assert kept.shape == (10, 3) and tuple(kept[0]) == SIZES
    assert (kept % 8 == 0).all() and (kept >= 8).all() and (kept <= SIZES).all()
    totals = [channel_costs.spent(MACS, row) for row in kept]
    assert min(totals) < 0.1 * totals[0] and max(totals[1:]) > 0.4 * totals[0] and len(set(totals)) == 10


def test_measured_medians_tell_more_work_from_less():
    few, many = (lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, v: jnp.tanh(v @ x), x) for n in (1, 400))
    seconds = latency.measure([few, many], jnp.eye(128), rounds=5)
    assert seconds.shape == (2,) and 0 < seconds[0] < seconds[1]


def test_networks_are_arguments_and_compiled_once():
    traces = []

    @jax.tree_util.register_pytree_node_class
    class Layer:
        def __init__(self, kernel):
            self.kernel = kernel

        def __call__(self, x):
            traces.append(isinstance(self.kernel, jax.core.Tracer))
            return x @ self.kernel

        def tree_flatten(self):
            return (self.kernel,), None

        @classmethod
        def tree_unflatten(cls, _, leaves):
            return cls(*leaves)

    latency.measure([Layer(jnp.eye(4))], jnp.ones((2, 4)), rounds=2)
    assert traces == [True]


def test_what_is_chosen_is_measured_and_corrected():
    """A machine that takes half as long again as the model says."""
    model, asked = fitted(), []

    def choose(limit):
        asked.append(limit)
        return channel_allocations.uniform(GROUPS, (limit,), channel_budgets.anything(GROUPS))

    def slow(built, x):
        return np.asarray([1.5 * true_seconds(kept) for kept in built])

    kept, seconds = latency.within(model, 4e-4, choose, lambda kept: kept, None, measured=slow)
    assert seconds == 1.5 * true_seconds(kept) and 0.9 * 4e-4 < seconds <= 4e-4
    assert 2 <= len(asked) <= 3
    with pytest.raises(BadInput, match="after 4 corrections"):
        forever = itertools.count(2)
        latency.within(
            model, 6e-4, lambda limit: SIZES, lambda kept: kept, None, measured=lambda *_: [1e-3 * next(forever)]
        )


def test_bad_input_is_one_line():
    kept = latency.spread(GROUPS, 4)
    with pytest.raises(BadInput, match="3 networks and 3 times for 3 weights: measure at least 4"):
        latency.fit(COSTS, kept[:3], np.ones(3), GROUPS)
    with pytest.raises(BadInput, match="give positive numbers"):
        latency.fit(COSTS, kept, np.asarray([1, 2, 0, 1.0]), GROUPS)
