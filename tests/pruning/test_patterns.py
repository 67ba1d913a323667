"""Blocks and N:M against NumPy: what stays, what the counts are, and what comes back while a net is tuned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import groups as grouping
from jax_prune.pruning import lattice, masks, recovery, scores
from jax_prune.pruning.groups import Rule

PARAMS = nets.build("lenet5").params
LATER = jax.tree.map(lambda leaf: leaf + 0.05 * jnp.sin(37 * leaf), PARAMS)


def grouped(*rules):
    return grouping.weight_groups(PARAMS, rules)


def matrix(leaf):
    return np.asarray(leaf).reshape(-1, leaf.shape[-1])


def tiles(leaf, rows, columns):
    """[inputs / rows, outputs / columns, rows * columns], by slicing."""
    whole = matrix(leaf)
    return np.asarray(
        [
            [whole[i : i + rows, j : j + columns].ravel() for j in range(0, whole.shape[1], columns)]
            for i in range(0, whole.shape[0], rows)
        ]
    )


def masked(groups, kept, params=PARAMS):
    return masks.from_kept(params, groups, masks.ranks(scores.magnitude(params, groups), groups), jnp.asarray(kept))


@pytest.mark.compat
@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 5), (5, 2)])
@settings(deadline=None, max_examples=15)
@given(count=st.integers(0, 5000))
def test_tiles_live_or_die_whole_by_their_sums(rows, columns, count):
    groups = grouped(Rule("conv2/kernel|ip2/kernel", block=(rows, columns)), Rule("conv1/.*|ip1/.*", frozen=True))
    width = rows * columns
    sizes = [25_000, 5_000]
    assert [(group.size, group.step) for group in groups] == [(size, width) for size in sizes]
    kept = [min(count, size) // width * width for size in (25_000, 5_000)]
    found = masked(groups, kept)
    for name, number in zip(("conv2", "ip2"), kept, strict=True):
        flags = tiles(found[name]["kernel"], rows, columns)
        sums = tiles(jnp.abs(PARAMS[name]["kernel"]), rows, columns).sum(axis=-1)
        assert (flags.all(-1) == flags.any(-1)).all() and flags.sum() == number
        if 0 < number < flags.size:
            assert sums[flags.all(-1)].min() >= sums[~flags.any(-1)].max() - 1e-6
        assert np.asarray(found[name]["bias"]).all()  # biases stay beside a pattern


@pytest.mark.compat
@pytest.mark.parametrize("among", [2, 4, 5])
def test_every_block_keeps_its_n_largest(among):
    groups = grouped(Rule("(conv2|ip2)/kernel", nm=f"n:{among}"), Rule("conv1/.*|ip1/.*", frozen=True))
    assert [group.step for group in groups] == [25_000 // among, 5_000 // among]
    for count in range(among + 1):
        found = masked(groups, [count * group.step for group in groups])
        for name in ("conv2", "ip2"):
            flags = tiles(found[name]["kernel"], among, 1)
            size = tiles(jnp.abs(PARAMS[name]["kernel"]), among, 1)
            assert (flags.sum(-1) == count).all()
            expected = np.sort(size, axis=-1)[..., among - count :].sum(-1)
            np.testing.assert_allclose((size * flags).sum(-1), expected, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    scores=st.lists(st.integers(0, 3), min_size=48, max_size=48),
    rule=st.sampled_from([{"block": (2, 3)}, {"block": (4, 1)}, {"nm": "n:4"}, {"nm": "2:4"}]),
)
def test_ranks_are_permutations_whatever_the_ties(scores, rule):
    params = {"a": {"kernel": np.ones((4, 6))}, "b": {"kernel": np.ones((2, 2, 2, 3))}}
    (group,) = grouping.weight_groups(params, (Rule("./kernel", group="both", **rule),))
    (ranks,) = masks.ranks((jnp.asarray(scores, jnp.float32),), (group,))
    assert sorted(ranks.tolist()) == list(range(48))


def test_two_of_four_is_one_count():
    groups = grouped(Rule("ip1/kernel", nm="2:4"), Rule("conv2/kernel", nm="n:4"), Rule("ip2/kernel", round_to=64))
    bounds = grouping.bounds(groups, (Rule("ip1/kernel", nm="2:4"),))
    least, most = lattice.kept_range(lattice.of(groups), bounds)
    np.testing.assert_array_equal(least, [1, 25_000 // 4, 200_000, 64])
    np.testing.assert_array_equal(most, [520, 25_000, 200_000, 5_010])


def test_two_of_four_is_exact_at_any_size():
    for size in (4 * 25_000_001, 2**27, 12):
        params = {"a": {"kernel": jax.ShapeDtypeStruct((size, 1), jnp.float32)}}
        rules = (Rule("a/kernel", nm="1:4"),)
        groups = grouping.weight_groups(params, rules)
        least, most = lattice.kept_range(lattice.of(groups), grouping.bounds(groups, rules))
        assert int(least[0]) == int(most[0]) == size // 4


@pytest.mark.parametrize("rule", [{"block": (4, 1)}, {"nm": "n:4"}, {"nm": "2:4"}])
@pytest.mark.parametrize("how", ["reselect", "hysteresis"])
def test_what_returns_while_tuning_fits_the_pattern(rule, how):
    groups = grouped(Rule("(conv2|ip1|ip2)/kernel", **rule))
    kept = [100, *(group.step * 2 for group in groups[1:])]
    before = masked(groups, kept)
    if how == "reselect":
        after = jax.jit(recovery.reselect, static_argnums=2)(LATER, scores.magnitude(LATER, groups), groups, kept)
    else:
        thresholds = recovery.thresholds(PARAMS, groups, jnp.asarray(kept))
        after = recovery.hysteresis(jax.random.key(0), LATER, before, groups, thresholds, jnp.float32(1))
    assert recovery.returned(before, after, groups)[1:].all()
    expected = masked(groups, kept, LATER)
    for name in ("conv2", "ip1", "ip2"):
        np.testing.assert_array_equal(after[name]["kernel"], expected[name]["kernel"])
        if "nm" in rule:
            assert (tiles(after[name]["kernel"], 4, 1).sum(-1) == 2).all()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((Rule("conv1/kernel", nm="2:4"),), "nm=2:4 of conv1 does not fit 25 inputs x 20 outputs"),
        ((Rule("conv1/kernel", block=(4, 1)),), "block=4x1 of conv1 does not fit 25 inputs"),
        ((Rule("ip1/kernel", block=(0, 1)),), "sides of 1 or more"),
        ((Rule("ip1/kernel", block=(4, 1), nm="2:4"),), "give one pattern"),
        ((Rule("ip1/kernel", nm="5:4"),), "write 2:4"),
        ((Rule("ip1/kernel", nm="half"),), "write 2:4"),
        ((Rule("ip1/kernel", round_to=0),), "give 1 or more"),
        ((Rule("ip./kernel", group="both"), Rule("ip1/kernel", nm="2:4")), "group both has nm 2:4 and None"),
        (
            (Rule("ip1/kernel", nm="n:4", lower=0.9),),
            "may keep 1 to 40000 of 400000 entries, and no multiple of 100000",
        ),
        ((Rule("ip1/kernel", nm="n:4", lower=0.3, upper=0.4),), "may keep 240000 to 280000 .* no multiple of 100000"),
        ((Rule(".*", lower=0.8), Rule("ip1/kernel", nm="2:4")), "ip1/kernel has nm=2:4, a ratio of 0.5, and lower=0.8"),
        ((Rule("ip1/kernel", nm="1:4", upper=0.5),), "ip1/kernel has nm=1:4, a ratio of 0.75, and upper=0.5"),
        ((Rule("ip1/kernel", inputs=1),), "ip1 has inputs but no nm or block"),
        ((Rule("ip./kernel", tied="x"), Rule("ip1/kernel", lower=0.9), Rule("ip2/kernel", upper=0.5)), "crossed"),
    ],
)
def test_patterns_that_do_not_fit_say_why(rules, says):
    with pytest.raises(BadInput, match=says):
        grouping.bounds(grouped(*rules), rules)


def test_steps_of_rules_multiply():
    (group,) = grouped(Rule("ip1/kernel", block=(4, 1), round_to=6), Rule("conv.*|ip2.*", frozen=True))
    assert group.step == 12
    (group, *_) = grouped(Rule("conv1/kernel", round_to=8))
    assert (group.step, group.size) == (8, 520)  # the bias is still one of the layer's


def test_tied_groups_have_the_tightest_bounds_among_them():
    rules = (Rule("ip./kernel", tied="dense"), Rule("ip1/kernel", upper=0.75), Rule("ip2/kernel", lower=0.5))
    lower, upper = grouping.bounds(grouped(*rules), rules)
    assert lower[2:].tolist() == [0.5, 0.5] and upper[2:] == pytest.approx([0.75, 0.75], abs=1e-3)


def attention(heads, bias):
    """The parameters of a Flax attention layer on 12 features: kernels [12, H, 4] and [H, 4, 10]."""
    layer = nnx.MultiHeadAttention(heads, 12, 4 * heads, out_features=10, use_bias=bias, decode=False, rngs=nnx.Rngs(0))
    return {"attention": nets.from_nnx(layer).params}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_n_of_m_inputs_of_attention_are_those_of_its_own_products(heads, bias):
    params = attention(heads, bias)
    rules = (Rule("attention/.*/kernel", nm="n:4"),)
    groups = grouping.weight_groups(params, rules)
    found = masked(groups, [2 * group.step for group in groups], params)["attention"]
    for name in ("query", "key", "value", "out"):
        kernel, flags = (np.asarray(tree[name]["kernel"]) for tree in (params["attention"], found))
        # an output's inputs: D of every (h, dh), and all (h, dh) of every output
        columns = flags.reshape(heads * 4, 10) if name == "out" else flags.reshape(12, heads * 4)
        assert kernel.shape == ((heads, 4, 10) if name == "out" else (12, heads, 4))
        for column in columns.T:
            assert (column.reshape(-1, 4).sum(axis=1) == 2).all()


def test_where_nothing_tells_a_kernels_inputs_the_rule_must():
    def kernel(**rest):
        return {"layer": {"kernel": jnp.arange(1.0, 97).reshape(4, 6, 4), **rest}}

    def matrix_of(params, **said):
        rules = (Rule("layer/kernel", block=(2, 2), **said),)
        return next(group.pattern.shapes for group in grouping.weight_groups(params, rules) if group.pattern)

    assert matrix_of(kernel(bias=jnp.zeros(4))) == ((24, 4),)
    assert matrix_of(kernel(bias=jnp.zeros((6, 4)))) == ((4, 24),)
    assert matrix_of(kernel(), inputs=1) == ((4, 24),)
    assert matrix_of(kernel(), inputs=2) == ((24, 4),)
    assert matrix_of({"layer": {"kernel": jnp.ones((3, 3, 2, 4))}}) == ((18, 4),)
    with pytest.raises(BadInput, match="attention/key/bias has a pattern"):
        grouping.weight_groups(attention(2, True), (Rule("attention/.*", block=(2, 2)),))
    with pytest.raises(BadInput, match=r"layer/kernel, \[4, 6, 4\], has no bias .* inputs=1 .* inputs=2"):
        matrix_of(kernel())
    with pytest.raises(BadInput, match="inputs=3 of layer/kernel.* give 1 to 2"):
        matrix_of(kernel(), inputs=3)
