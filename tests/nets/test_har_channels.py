"""Hidden units of the recurrent networks: groups as written by hand, networks without them, and what they cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import nets, pruning
from jax_prune.pruning import channel_costs, costs, groups, masks
from jax_prune.types import Slot

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # the oldest JAX has this
EIGHT = ["lstm", "bilstm", "gru", "bigru", "cnn_lstm", "cnn_bilstm", "cnn_gru", "cnn_bigru"]
QUICK = ["bigru", "cnn_lstm"]  # the slow tests take the other six too
TWO_OF_EIGHT = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EIGHT]
SMALL = {"units": 6, "features": 3, "num_classes": 4, "filters": 5}
UNITS, FILTERS, CLASSES = 6, 5, 4


def gates(name):
    return 3 if "gru" in name else 4


def hidden_units(name, way, offset):
    """The slots of one direction: every gate's block of columns, the recurrent rows, the classes' rows."""
    blocks = tuple(range(0, UNITS * gates(name), UNITS))
    biased = "dense_i" if "gru" in name else "dense_h"
    return {
        Slot(f"{way}/dense_i/kernel", 1, blocks),
        Slot(f"{way}/dense_h/kernel", 1, blocks),
        Slot(f"{way}/dense_h/kernel", 0),
        Slot(f"{way}/{biased}/bias", 0, blocks),
        Slot("fc/kernel", 0, (offset,)),
    }


def by_hand(name):
    """[(units, slots)] in the order in which the network makes them."""
    ways = ("forward", "backward") if "bi" in name else ("forward",)
    table = [(UNITS, hidden_units(name, way, place * UNITS)) for place, way in enumerate(ways)]
    if name.startswith("cnn"):
        second = {Slot("conv2/kernel", 2), Slot("conv2/bias", 0)} | {Slot(f"{way}/dense_i/kernel", 0) for way in ways}
        first = {Slot("conv1/kernel", 2), Slot("conv1/bias", 0), Slot("conv2/kernel", 1)}
        table = [(FILTERS, first), (FILTERS, second), *table]
    return table


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", EIGHT)
def test_groups_are_those_written_by_hand(name, train):
    traced = groups.traced(nets.build(name, **SMALL), jnp.zeros((2, 9, 3)), train=train)
    assert [(group.size, set(group.slots)) for group in traced.groups] == by_hand(name)
    stays = {(slot.path, slot.axis): entry.reason for entry in traced.frozen for slot in entry.group.slots}
    ways = ("forward", "backward") if "bi" in name else ("forward",)
    inputs = [("conv1/kernel", 1)] if name.startswith("cnn") else [(f"{way}/dense_i/kernel", 0) for way in ways]
    assert stays.keys() == {("fc/kernel", 1), ("fc/bias", 0), *inputs}
    assert stays["fc/kernel", 1] == "the network's output"


@pytest.mark.compat
@pytest.mark.parametrize("name", TWO_OF_EIGHT)
def test_masked_and_compact_agree(name):
    draws = np.random.default_rng(0)
    with enable_x64():
        net = nets.build(name, **SMALL)
        net = net.replace(params=jax.tree.map(lambda leaf: jnp.asarray(draws.normal(0, 0.5, leaf.shape)), net.params))
        windows = jnp.asarray(draws.normal(size=(2, 9, 3)))
        found = groups.trace(net, windows)
        kept = [draws.permutation(group.size) < draws.integers(1, group.size) for group in found]
        mask = masks.scatter(masks.full(net.params), net.params, found, list(map(jnp.asarray, kept)))
        masked = net.replace(params=masks.apply(net.params, mask))
        small = pruning.compact(net, found, kept, example=windows)
        for train in (False, True):
            one, other = (outputs(each, windows, train) for each in (masked, small))
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)
        assert np.abs(one - outputs(net, windows, False)).max() > 1e-3
    module, counts = small.rebuild(small.params, small.state), [int(flags.sum()) for flags in kept]
    filters, counts = ([3, *counts[:2]], counts[2:]) if name.startswith("cnn") else ([3], counts)
    for way, count in zip(module.ways, counts, strict=True):
        cell = getattr(module, way)
        assert (cell.in_features, cell.hidden_features) == (filters[-1], count)
        assert (cell.dense_i.out_features, cell.dense_h.out_features) == (gates(name) * count,) * 2
        assert (cell.dense_i.in_features, cell.dense_h.in_features) == (filters[-1], count)
    assert (module.fc.in_features, module.fc.out_features) == (sum(counts), CLASSES)
    for layer, inputs, count in zip(module.convolutions, filters, filters[1:], strict=False):
        assert (getattr(module, layer).in_features, getattr(module, layer).out_features) == (inputs, count)


def outputs(net, windows, train):
    """No key, so no dropout."""
    return jax.jit(lambda params, x: net.apply(params, net.state, x, train=train, key=None)[0])(net.params, windows)


@pytest.mark.parametrize("length", [1, 13])
@pytest.mark.parametrize("name", EIGHT)
def test_products_are_as_many_as_steps(name, length):
    if length < 2 and name.startswith("cnn"):
        return
    expected, inputs, steps = {}, 3, length
    if name.startswith("cnn"):
        expected = {"conv1/kernel": length * 5 * 3 * FILTERS, "conv2/kernel": length * 5 * FILTERS * FILTERS}
        inputs, steps = FILTERS, length // 2
    ways = ("forward", "backward") if "bi" in name else ("forward",)
    for way in ways:
        expected[f"{way}/dense_i/kernel"] = steps * inputs * gates(name) * UNITS
        expected[f"{way}/dense_h/kernel"] = steps * UNITS * gates(name) * UNITS
    expected["fc/kernel"] = len(ways) * UNITS * CLASSES
    assert costs.macs(nets.build(name, **SMALL), jnp.zeros((1, length, 3))) == expected


@pytest.mark.parametrize("name", TWO_OF_EIGHT)
def test_costs_of_kept_units_are_those_of_the_compact_network(name):
    net, window = nets.build(name, **SMALL), jnp.zeros((1, 9, 3))
    found = groups.trace(net, window)
    kept = [np.arange(group.size) > place for place, group in enumerate(found)]
    small, counts = pruning.compact(net, found, kept, example=window), [int(flags.sum()) for flags in kept]
    products = channel_costs.macs(net, found, window)
    assert channel_costs.spent(products, counts) == sum(costs.macs(small, window).values())
    parameters = channel_costs.parameters(net.params, found)
    assert channel_costs.spent(parameters, counts) == costs.parameters(small.params).all_total


@pytest.mark.parametrize("name", EIGHT)
def test_every_kernel_is_a_weight_group_with_its_bias(name):
    net = nets.build(name, **SMALL)
    leaves = {"/".join(str(key.key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(net.params)}
    found = groups.weight_groups(net.params)
    assert sorted(slot.path for group in found for slot in group.slots) == sorted(leaves)
    assert [group.name for group in found] == sorted(
        path.removesuffix("/kernel") for path in leaves if "kernel" in path
    )
