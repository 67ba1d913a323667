"""Costs of kept channels against networks that are built so narrow, and against Python's own integers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_costs, costs, wide
from jax_prune.types import Group, Net, Slot

PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # VGG16; 0 pools


def counts_of(widths):
    return [[1] * len(widths), *np.random.default_rng(0).integers(1, np.asarray(widths) + 1, (6, len(widths))), widths]


@pytest.mark.compat
def test_the_narrow_networks_own_parameters_and_products(architecture, images):
    groups, net = architecture.groups(architecture.widths), architecture.net()
    every = channel_costs.parameters(net.params, groups), channel_costs.macs(net, groups, images)
    for kept in counts_of(architecture.widths):
        narrow = architecture.net(kept)
        expected = costs.parameters(narrow.params).all_total, sum(costs.macs(narrow, images).values())
        assert tuple(channel_costs.spent(cost, kept) for cost in every) == expected


def vgg16(widths=tuple(width for width in PLAN if width), dense=(4096, 4096)):
    """Shapes alone, at 224 pixels."""
    params, inputs, layers, width = {}, 3, [], iter(widths)
    for number, step in enumerate(PLAN):
        if step:
            outputs = next(width)
            params[f"conv{number}"] = {"kernel": (3, 3, inputs, outputs), "bias": (outputs,)}
            inputs = outputs
        layers.append(f"conv{number}" if step else "pool")
    for name, rows, outputs in zip("abc", (49 * inputs, *dense), (*dense, 1000), strict=True):
        params[name] = {"kernel": (rows, outputs), "bias": (outputs,)}

    def apply(params, state, x, *, train, key):
        for layer in layers:
            if layer == "pool":
                x = x[:, ::2, ::2]
                continue
            kernel = params[layer]["kernel"]
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + params[layer]["bias"])
        x = x.reshape(x.shape[0], -1)
        for name in "abc":
            x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
        return x, state

    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), params, is_leaf=lambda s: type(s) is tuple)
    return Net(shapes, {}, apply, lambda params, state: None)


def vgg16_groups(net):
    names = [*(f"conv{number}" for number, width in enumerate(PLAN) if width), *"abc"]
    groups = []
    for name, after in zip(names, names[1:], strict=False):
        kernel = net.params[name]["kernel"].shape
        into = Slot(f"{after}/kernel", len(net.params[after]["kernel"].shape) - 2)
        if after == "a":
            into = into._replace(starts=tuple(kernel[-1] * pixel for pixel in range(49)))
        slots = Slot(f"{name}/kernel", len(kernel) - 1), Slot(f"{name}/bias", 0), into
        groups.append(Group(name, kernel[-1], slots))
    return tuple(groups)


@pytest.mark.compat
def test_published_totals_of_vgg16_are_beyond_31_bits_and_exact():
    net, image = vgg16(), jnp.zeros((1, 224, 224, 3))
    groups = vgg16_groups(net)
    every = channel_costs.parameters(net.params, groups), channel_costs.macs(net, groups, image)
    whole = [group.size for group in groups]
    assert [channel_costs.spent(cost, whole) for cost in every] == [138_357_544, 15_470_264_320]
    for seed in range(3):
        kept = [int(count) for count in np.random.default_rng(seed).integers(1, np.asarray(whole) + 1)]
        narrow = vgg16(kept[:13], kept[13:])
        products = sum(costs.macs(narrow, image).values())
        assert channel_costs.spent(every[1], kept) == products
        entries = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(narrow.params))
        assert channel_costs.spent(every[0], kept) == entries
    assert float(every[1](jnp.asarray(whole))) == pytest.approx(15_470_264_320, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    prices=st.tuples(st.integers(1, 2**40), st.integers(1, 2**33)),
    sizes=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_price_and_both_axes_of_one_leaf(prices, sizes, share):
    one, two = sizes
    shapes = {"kernel": (one + 3, 2 * one + two), "bias": (two,)}
    groups = (
        Group("one", one, (Slot("kernel", 0, (3,)), Slot("kernel", 1, (0, 1), 2))),
        Group("two", two, (Slot("kernel", 1, (2 * one,)), Slot("bias", 0), Slot("mean", 0, state=True))),
    )
    cost = channel_costs.priced(shapes, groups, dict(zip(shapes, prices, strict=True)), "cents", base=7)
    a, b = (max(1, round(part * size)) for part, size in zip(share, sizes, strict=True))
    assert channel_costs.spent(cost, [a, b]) == 7 + prices[0] * (a + 3) * (2 * a + b) + prices[1] * b


def test_weighted_sums(architecture, images):
    groups, net = architecture.groups(architecture.widths), architecture.net()
    one, two = channel_costs.parameters(net.params, groups), channel_costs.macs(net, groups, images)
    joined = channel_costs.combined([3.0, 0.0, 7.0], [one, one, two], 11.0, groups, "any")
    for kept in counts_of(architecture.widths):
        expected = 11 + 3 * channel_costs.spent(one, kept) + 7 * channel_costs.spent(two, kept)
        assert channel_costs.spent(joined, kept) == expected


def test_many_candidates_and_new_prices_are_one_program(architectures, images):
    traces = []

    @jax.jit
    def totals(cost, kept):
        traces.append(1)
        return jax.vmap(cost.total)(kept)

    plain = architectures["plain"]
    groups, net = plain.groups(plain.widths), plain.net()
    cost, kept = channel_costs.macs(net, groups, images), np.stack(counts_of(plain.widths)).astype(np.int32)
    for scale in (1, 5):
        scaled = channel_costs.combined([scale], [cost], 0, groups, "MACs")
        expected = [scale * channel_costs.spent(cost, row) for row in kept]
        assert wide.to_numpy(totals(scaled, kept)).tolist() == expected
    assert len(traces) == 1


def test_bad_input_is_one_line():
    shapes = {"kernel": (4, 6)}
    with pytest.raises(BadInput, match="group a has single entries as units"):
        channel_costs.parameters({"kernel": jnp.zeros((4, 6))}, [Group("a", 24, (Slot("kernel"),))])
    with pytest.raises(BadInput, match="group a has units outside axis 1 of kernel"):
        channel_costs.priced(shapes, [Group("a", 7, (Slot("kernel", 1),))], {"kernel": 1}, "x")
    with pytest.raises(BadInput, match="take more than there is of axis 0 of kernel"):
        twice = [Group("a", 3, (Slot("kernel", 0),)), Group("b", 2, (Slot("kernel", 0, (2,)),))]
        channel_costs.priced(shapes, twice, {"kernel": 1}, "x")
    with pytest.raises(BadInput, match="count in larger units"):
        channel_costs.priced(shapes, [Group("a", 4, (Slot("kernel", 0),))], {"kernel": 2**60}, "x")

    def sliced(params, state, x, *, train, key):
        return x @ params["kernel"][:3], state

    net = Net({"kernel": jnp.ones((4, 6))}, {}, sliced, lambda params, state: None)
    with pytest.raises(BadInput, match="kernel is in 18 products, not equally many"):
        channel_costs.macs(net, [Group("a", 6, (Slot("kernel", 1),))], jnp.ones((1, 3)))
