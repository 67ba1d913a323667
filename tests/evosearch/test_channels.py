"""Searches over channels: on the budget, the loss of the masked network with statistics of its own, raced exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import evosearch, learning, nets
from jax_prune.errors import BadInput
from jax_prune.evosearch import Config
from jax_prune.evosearch.racing import Summed
from jax_prune.pruning import channel_budgets, channel_costs, channel_scores, masks
from jax_prune.pruning.channel_budgets import limit
from jax_prune.types import Batch, Bounds, Group, Slot

WIDTHS = (6, 8)
CONFIG = Config(population=6, generations=4, at_once=1, race="exact")


class Small(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(2, WIDTHS[0], (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(WIDTHS[0], rngs=rngs)
        self.conv2 = nnx.Conv(WIDTHS[0], WIDTHS[1], (3, 3), strides=2, rngs=rngs)
        self.bn2 = nnx.BatchNorm(WIDTHS[1], rngs=rngs)
        self.head = nnx.Linear(4 * WIDTHS[1], 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return self.head(x.reshape(x.shape[0], -1))


def places(*found):
    return tuple(Slot(*place) for place in found)


def norm(name):
    statistics = [(f"{name}/{leaf}", 0, (0,), 1, True) for leaf in ("mean", "var")]
    return ((f"{name}/scale", 0), (f"{name}/bias", 0), *statistics)


GROUPS = (
    Group("conv1", 6, places(("conv1/kernel", 3), ("conv1/bias", 0), *norm("bn1"), ("conv2/kernel", 2))),
    Group("conv2", 8, places(("conv2/kernel", 3), ("conv2/bias", 0), *norm("bn2"), ("head/kernel", 0, (0, 8, 16, 24)))),
)
EXAMPLE = jnp.zeros((1, 4, 4, 2))


def problem(seed: int = 0, examples: int = 60) -> Any:
    net, rng = nets.from_nnx(Small(nnx.Rngs(seed))), np.random.default_rng(seed)
    x = rng.normal(size=(examples, 4, 4, 2)).astype(np.float32)
    y = np.asarray(net(x)).argmax(1)
    ranks = masks.ranks(channel_scores.magnitude(net.params, GROUPS))
    masked = evosearch.masked_loss(
        net, GROUPS, ranks, Batch(x, y), learning.cross_entropy, learning.correct, chunk=20, recalibration=x[:30]
    )
    return net, masked, Batch(x, y)


def limits_of(net: Any, share: float, other: float = 1.0) -> Any:
    macs, parameters = channel_costs.macs(net, GROUPS, EXAMPLE), channel_costs.parameters(net.params, GROUPS)
    return tuple(
        limit(cost, int(part * channel_costs.spent(cost, WIDTHS)))
        for cost, part in ((macs, share), (parameters, other))
    )


@pytest.fixture(scope="module")
def built() -> Any:
    return problem()


@pytest.mark.slow
def test_values_are_losses_of_the_masked_network_with_its_own_statistics(built):
    net, masked, batch = built
    fitness = evosearch.channel_loss(masked, limits_of(net, 0.5))
    assert isinstance(fitness, Summed) and fitness.is_mean
    for genome in ([0.0, 0.0], [-1.0, 0.0], [0.0, -1.5]):
        kept = np.asarray(fitness.kept(jnp.float32(genome)))
        found = masks.from_kept(net.params, GROUPS, masked.ranks, jnp.asarray(kept))
        params = masks.apply(net.params, found)
        state = masked.recalibration(params, net.state)
        outputs, _ = net.apply(params, state, batch.x, train=False, key=None)
        expected = learning.cross_entropy(outputs, batch).mean()
        score = jax.jit(lambda fitness, genome: fitness(genome))(fitness, jnp.float32(genome))
        np.testing.assert_allclose(score.value, expected, rtol=1e-4)
        assert score.violation == 0


@pytest.mark.slow
def test_a_search_stays_on_the_budget_and_races_change_nothing(built):
    net, masked, _ = built
    limits = limits_of(net, 0.4, 0.6)
    fitness = evosearch.channel_loss(masked, limits)
    raced, whole = (
        evosearch.search(jax.random.key(1), dataclasses.replace(CONFIG, race=race), fitness.box, fitness)
        for race in ("exact", "none")
    )
    np.testing.assert_array_equal(raced.best, whole.best)
    assert raced.info.work.sum() < whole.info.work.sum()
    for kept in evosearch.history.seen(raced.info, fitness)["kept"].reshape(-1, 2):
        assert all(channel_costs.spent(cost, kept) <= int(budget.low) for cost, budget in limits)
        for index, size in enumerate(WIDTHS):
            more = kept + np.eye(2, dtype=int)[index]
            assert more[index] > size or any(
                channel_costs.spent(cost, more) > int(budget.low) for cost, budget in limits
            )
    best = fitness.kept(jnp.asarray(raced.best))
    np.testing.assert_allclose(raced.score.value, masked(best).loss, rtol=1e-5)


def test_a_killed_search_goes_on(built, tmp_path):
    net, masked, _ = built
    fitness = evosearch.channel_loss(masked, limits_of(net, 0.5))

    def kill(generations, text):
        if generations == 1:
            seen.append(text)
            if len(seen) == 2:
                raise KeyboardInterrupt

    seen: list[str] = []
    whole = evosearch.search(jax.random.key(0), CONFIG, fitness.box, fitness)
    with pytest.raises(KeyboardInterrupt):
        evosearch.search(
            jax.random.key(0), CONFIG, fitness.box, fitness, progress=kill, checkpoint=tmp_path, checkpoint_seconds=0
        )
    again = evosearch.search(jax.random.key(0), CONFIG, fitness.box, fitness, checkpoint=tmp_path, checkpoint_seconds=0)
    np.testing.assert_array_equal(whole.best, again.best)
    np.testing.assert_array_equal(whole.info.vectors, again.info.vectors)


def test_new_weights_data_and_budgets_are_one_program():
    before = evosearch.compilations()
    for seed, share in ((0, 0.5), (1, 0.3), (2, 0.7)):
        net, masked, _ = problem(seed)
        fitness = evosearch.channel_loss(masked, limits_of(net, share))
        evosearch.search(jax.random.key(seed), Config(population=6, generations=2, at_once=2), fitness.box, fitness)
    assert evosearch.compilations() == before + 1


def test_costs_of_channels_trade_off(built):
    net, masked, _ = built
    objectives = evosearch.trade_off(masked, [channel_costs.macs(net, GROUPS, EXAMPLE)])
    values, _ = objectives(jnp.float32([0.5, 0.5]))
    macs = channel_costs.macs(net, GROUPS, EXAMPLE)
    assert values[1] == pytest.approx(channel_costs.spent(macs, [3, 4]) / channel_costs.spent(macs, WIDTHS))


def test_sweeps_of_single_groups_end_the_box_and_leave_the_budget_room(built):
    net, masked, _ = built
    macs = channel_costs.macs(net, GROUPS, EXAMPLE)
    found = evosearch.sensitivity.curves(masked, [0.0, 0.5, 0.8])
    np.testing.assert_allclose(found.loss[:, 1], [masked(jnp.int32(kept)).loss for kept in ([3, 8], [6, 4])], rtol=1e-5)
    budget = channel_costs.spent(macs, WIDTHS) // 3
    everything = channel_budgets.anything(GROUPS)
    box = evosearch.sensitivity.bounds(found, 1e-3, everything, GROUPS, budget, macs)
    least, _ = evosearch.reachable(GROUPS, box, macs)
    assert 2 * (least - evosearch.reachable(GROUPS, everything, macs)[0]) <= budget
    assert evosearch.channel_loss(masked, (limit(macs, budget),), box).box.lower.shape == (2,)


def test_bad_input_is_one_line(built):
    net, masked, batch = built
    with pytest.raises(BadInput, match=r"MACs cannot be met"):
        evosearch.channel_loss(masked, limits_of(net, 0.0))
    with pytest.raises(BadInput, match="at least one limit"):
        evosearch.channel_loss(masked, ())
    with pytest.raises(BadInput, match="give 2 pairs in"):
        evosearch.channel_loss(masked, limits_of(net, 0.5), Bounds(np.zeros(3), np.ones(3)))
    single = (Group("conv1", net.params["conv1"]["kernel"].size, (Slot("conv1/kernel"),)),)
    ranks = [np.arange(single[0].size)]
    entries = evosearch.masked_loss(net, single, ranks, batch, learning.cross_entropy)
    with pytest.raises(BadInput, match="group conv1 has single entries"):
        evosearch.channel_loss(entries, limits_of(net, 0.5))
    assert channel_budgets.anything(GROUPS).lower.shape == (2,)
