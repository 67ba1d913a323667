"""Counts by search: never below the floor, within every limit, and uniform's where losses cannot tell."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import counts_search, evosearch, learning, narrowing, nets, targets
from jax_prune.counts_search import Samples
from jax_prune.errors import BadInput
from jax_prune.pruning import channel_allocations, channel_budgets, channel_costs
from jax_prune.stages import Stage, Stages
from jax_prune.types import Batch

IMAGE = np.zeros((1, 28, 28, 1), np.uint8)
UNITS = 8  # of either branch: inputs and classes too
CONFIG = evosearch.Config(population=12, generations=6, chunk=3)


class Branches(nnx.Module):
    """An essential branch that names the class, and a useless one, large in weights, that tells the head nothing."""

    def __init__(self, rngs):
        self.essential = nnx.Linear(UNITS, UNITS, use_bias=False, rngs=rngs)
        self.useless = nnx.Linear(UNITS, UNITS, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(2 * UNITS, UNITS, use_bias=False, rngs=rngs)
        self.essential.kernel[...] = jnp.eye(UNITS)
        self.useless.kernel[...] = 9 * self.useless.kernel[...]
        self.head.kernel[...] = jnp.concatenate([jnp.eye(UNITS), 1e-3 * self.head.kernel[UNITS:]])

    def __call__(self, x):
        return self.head(jnp.concatenate([nnx.relu(self.essential(x)), nnx.relu(self.useless(x))], axis=-1))


def drawn(seed, examples=500):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, UNITS, examples)
    return Batch((4 * np.eye(UNITS)[y] + rng.uniform(0, 0.5, (examples, UNITS))).astype(np.float32), y)


@functools.cache
def branches():
    net = nets.from_nnx(Branches(nnx.Rngs(0)))
    target = targets.target(net, drawn(0).x[:1], {"macs": 0.5})
    assert [group.name for group in target.groups] == ["essential", "useless"]
    return net, target


def chosen(floor, loss=learning.cross_entropy, seed=0):
    net, target = branches()
    stages = Stages(None, {})
    stages("probe", lambda: Stage({}, {"at_once": 2}))  # not timed
    ranking = narrowing.scored(jax.random.key(0), net, target.groups, drawn(0), learning.cross_entropy, "l1")
    samples = Samples(drawn(1), drawn(2))
    return counts_search.chosen_by_search(
        jax.random.key(seed), net, target, floor, samples, ranking, CONFIG, loss, stages, 2**30
    )


def luck(outputs, batch):
    """A loss of the last digits alone: any two networks differ by chance."""
    return jnp.mod(1e3 * outputs.sum(axis=-1), 1.0)


@pytest.mark.parametrize(("floor", "counts"), [(0.0, [7, 1]), (0.5, [6, 2]), (0.75, [5, 3])])
def test_a_clearly_better_allocation_is_taken_as_far_as_the_floor_lets_it(floor, counts):
    found = chosen(floor)
    verdict = found.facts["verdict"]
    assert found.counts.tolist() == found.facts["counts"]["search"] == counts and verdict["kept"] == "search"
    assert found.facts["counts"]["uniform"] == [4, 4] and verdict["z"]["search"] > 3
    assert verdict["losses"]["search"] < min(verdict["losses"][name] for name in counts_search.KNOWN)


def test_a_floor_of_one_is_the_uniform_cut():
    found = chosen(1.0)
    assert found.counts.tolist() == [4, 4] and set(map(tuple, found.facts["counts"].values())) == {(4, 4)}
    assert (found.arrays["kept"] == 4).all()


@pytest.mark.parametrize("seed", range(3))
def test_uniform_comes_out_where_losses_cannot_tell(seed):
    found = chosen(0.0, luck, seed)
    assert found.facts["loss"] <= min(found.facts["known"].values())
    assert found.facts["verdict"]["kept"] == "uniform" and found.counts.tolist() == [4, 4]


@functools.cache
def lenet(macs, parameters, round_to):
    net = nets.build("lenet300")
    shares = {"macs": macs} | ({} if parameters is None else {"parameters": parameters})
    return net, targets.target(net, IMAGE, shares, round_to=round_to)


SHARES = st.sampled_from([(0.5, None), (0.1, None), (0.3, 0.4), (0.6, 0.2)])
STEPS = st.sampled_from([1, 7])


@given(
    shares=SHARES, round_to=STEPS, floor=st.floats(0, 1), wanted=st.tuples(st.floats(1e-3, 1), st.floats(1e-3, 1))
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_no_candidate_is_below_the_floor_and_limits_are_met(shares, round_to, floor, wanted):
    _, target = lenet(*shares, round_to)
    box = targets.floored(target, floor)
    uniform = channel_allocations.uniform(target.groups, target.limits, target.bounds)
    kept = channel_budgets.onto(box.limits, box.groups, box.bounds, wanted)
    assert (kept >= floor * uniform - 1e-6).all()
    assert all(channel_costs.spent(box.costs[name], kept) <= budget for name, budget in box.budgets.items())
    fewest, most = channel_budgets.kept_range(box.groups, box.bounds)
    assert (fewest <= uniform).all() and (uniform <= most).all()
    assert all(count % round_to == 0 or count == g.size for count, g in zip(kept, box.groups, strict=True))


@given(shares=SHARES, round_to=STEPS, wanted=st.tuples(st.floats(1e-3, 1), st.floats(1e-3, 1)))
@settings(deadline=None, max_examples=15)
def test_a_floor_of_one_leaves_uniform_alone_and_of_nought_everything(shares, round_to, wanted):
    _, target = lenet(*shares, round_to)
    box = targets.floored(target, 1)
    uniform = channel_allocations.uniform(target.groups, target.limits, target.bounds)
    np.testing.assert_array_equal(channel_budgets.onto(box.limits, box.groups, box.bounds, wanted), uniform)
    assert targets.floored(target, 0) == target


@given(shares=SHARES, round_to=STEPS, floor=st.floats(0, 1))
@settings(deadline=None, max_examples=15)
def test_known_counts_are_in_the_box_and_uniform_is_the_unsearched_way(shares, round_to, floor):
    net, target = lenet(*shares, round_to)
    box = targets.floored(target, floor)
    known = counts_search.known_counts(net, target, box)
    fewest, most = channel_budgets.kept_range(box.groups, box.bounds)
    assert list(known) == list(counts_search.KNOWN)
    for counts in known.values():
        assert (fewest <= counts).all() and (counts <= most).all()
        assert all(channel_costs.spent(box.costs[name], counts) <= budget for name, budget in box.budgets.items())
    np.testing.assert_array_equal(known["uniform"], narrowing.chosen_by("uniform", net, target).counts)


@pytest.mark.parametrize("floor", [-0.1, 1.5, np.nan])
def test_a_floor_that_is_no_share_is_told(floor):
    with pytest.raises(BadInput, match="floor is .*: give a share of what the uniform cut leaves a group, 0 to 1"):
        chosen(floor)
