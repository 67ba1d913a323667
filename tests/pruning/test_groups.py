"""Groups follow the parameter tree and the rules; a rule that does nothing is an error."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import groups
from jax_prune.pruning.groups import Rule
from jax_prune.types import Group, Slot

PARAMS = nets.build("lenet5").params


def names(*rules, **options):
    return [(group.name, group.size) for group in groups.weight_groups(PARAMS, rules, **options)]


@pytest.mark.compat
def test_one_group_a_layer_with_its_bias():
    assert names() == [("conv1", 520), ("conv2", 25_050), ("ip1", 400_500), ("ip2", 5_010)]
    assert names(biases=False) == [("conv1", 500), ("conv2", 25_000), ("ip1", 400_000), ("ip2", 5_000)]


def test_frozen_leaves_are_in_no_group():
    assert names(Rule("ip2/.*", frozen=True)) == [("conv1", 520), ("conv2", 25_050), ("ip1", 400_500)]
    assert names(Rule(".*bias", frozen=True))[0] == ("conv1", 500)


def test_grouped_layers_share_one_ratio():
    assert names(Rule("conv./kernel", group="convs")) == [("convs", 25_570), ("ip1", 400_500), ("ip2", 5_010)]


def test_gather_lists_entries_in_unit_order():
    (group, *_) = groups.weight_groups(PARAMS, [Rule("conv./kernel", group="convs")])
    parts = [PARAMS[layer][leaf].ravel() for layer in ("conv1", "conv2") for leaf in ("kernel", "bias")]
    np.testing.assert_array_equal(groups.gather(PARAMS, group), np.concatenate(parts))


def test_norm_scales_and_lone_vectors_are_never_pruned():
    params = {"norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)}, "dense": {"kernel": jnp.ones((4, 2))}}
    assert [group.name for group in groups.weight_groups(params)] == ["dense"]


def test_bounds_come_from_rules_and_leave_one_unit():
    parts = groups.weight_groups(PARAMS)
    box = groups.bounds(parts, [Rule("conv1/.*", upper=0.5), Rule("ip1/kernel", lower=0.9)])
    np.testing.assert_allclose(box.lower, [0, 0, 0.9, 0])
    np.testing.assert_allclose(box.upper, [0.5, *(1 - 1 / group.size for group in parts[1:])])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            Rule("ip9/kernel"),
            "no parameter; there are conv1/bias, conv1/kernel, conv2/bias, conv2/kernel, ip1/bias, ip",
        ),
        (Rule("ip1"), "matches no parameter"),
        (Rule("("), "not a regular expression"),
    ],
)
def test_a_rule_that_matches_nothing_says_what_there_is(rule, says):
    with pytest.raises(BadInput, match=says):
        names(rule)


@pytest.mark.parametrize(
    ("rule", "says"),
    [(Rule("ip1/.*", lower=0.9, upper=0.1), "crossed"), (Rule("ip1/.*", upper=1.5), r"in \[0, 1\]")],
)
def test_bad_bounds(rule, says):
    with pytest.raises(BadInput, match=says):
        groups.bounds(groups.weight_groups(PARAMS), [rule])


def test_nothing_to_prune():
    with pytest.raises(BadInput, match="nothing to prune"):
        names(Rule(".*", frozen=True))


@settings(deadline=None)
@given(size=st.integers(2, 2 * 10**8), ratio=st.decimals(0, 1, places=4))
def test_bounds_mean_whole_units_exactly(size, ratio):
    group = Group("layer", size, (Slot("layer/kernel"),))
    asked = min(int(ratio * size), size - 1)  # decimal arithmetic: 0.9 of 1000 is 900
    both = groups.bounds([group], (Rule("layer/kernel", lower=float(ratio), upper=float(ratio)),))
    removed = [int(np.floor(np.float64(np.float32(edge[0])) * size)) for edge in both]
    if size < 2**22:
        assert removed == [asked, asked]
    assert removed[0] >= asked >= removed[1]


def test_a_bound_of_zero_is_a_bound():
    parts = groups.weight_groups(PARAMS)
    rules = (Rule(".*/kernel", lower=0.5), Rule(".*/kernel", lower=0.0), Rule(".*/kernel", upper=0.0))
    lower, upper = groups.bounds(parts, rules)
    assert not np.any(lower) and not np.any(upper)


def test_the_tightest_bound_of_grouped_kernels_holds():
    params = {"a": {"kernel": np.ones((4, 5))}, "b": {"kernel": np.ones((5, 2))}}
    rules = (Rule("./kernel", group="both"), Rule("b/kernel", upper=0.2))
    (group,) = groups.weight_groups(params, rules)
    assert groups.bounds([group], rules).upper[0] == np.float32(0.2)


@pytest.mark.parametrize("rule", [Rule("a/bias", upper=0.5), Rule("a/bias", group="x")])
def test_a_rule_that_would_do_nothing_is_refused(rule):
    params = {"a": {"kernel": np.ones((4, 5)), "bias": np.ones(5)}}
    with pytest.raises(BadInput, match="follows its layer's kernel"):
        groups.weight_groups(params, (rule,))
