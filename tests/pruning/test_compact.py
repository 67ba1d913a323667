"""Compact nets: what is cut where, what their modules say of it, and forwards that cannot be cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import nets, pruning
from jax_prune.errors import BadInput
from jax_prune.nets import resizing
from jax_prune.pruning import costs, groups, masks, scores
from jax_prune.types import Net

IMAGE, SEQUENCE = jnp.ones((2, 6, 6, 3)), jnp.ones((2, 5, 4))


class Stack(nnx.Module):
    """``forward(module, x)``."""

    def __init__(self, forward, **layers):
        self.forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.forward(self, x)


def rngs():
    return nnx.Rngs(0)


def random(net, seed=0):
    """Other parameters and statistics: no bias, scale or mean is as it was."""
    rng = np.random.default_rng(seed)
    fill = lambda leaf: jnp.asarray(rng.uniform(0.3, 1, leaf.shape) * rng.choice([-1, 1], leaf.shape), leaf.dtype)  # noqa: E731
    return net.replace(params=jax.tree.map(fill, net.params), state=jax.tree.map(lambda v: jnp.abs(fill(v)), net.state))


run = jax.jit(lambda net, x: net(x))


def all_but_first(found):
    return [np.arange(group.size) > 0 for group in found]


def masked(net, found, kept):
    mask = masks.scatter(masks.full(net.params), net.params, found, list(map(jnp.asarray, kept)))
    return net.replace(params=masks.apply(net.params, mask))


def check(net, x, **options):
    """Cuts the first unit of every group; gives the rebuilt module."""
    found = groups.trace(net, x)
    kept = all_but_first(found)
    small = pruning.compact(net, found, kept, example=x, **options)
    np.testing.assert_allclose(run(small, x), run(masked(net, found, kept), x), rtol=1e-4, atol=1e-4)
    return small.rebuild(small.params, small.state)


def test_modules_say_their_new_sizes():
    net = nets.from_nnx(
        Stack(
            lambda m, x: m.head(m.norm(m.deep(m.up(m.blocks(m.conv(x))))).mean((1, 2))),
            conv=nnx.Conv(3, 8, (3, 3), rngs=rngs()),
            blocks=nnx.Conv(8, 12, (3, 3), feature_group_count=2, rngs=rngs()),
            up=nnx.ConvTranspose(12, 5, (2, 2), rngs=rngs()),
            deep=nnx.Conv(5, 10, (3, 3), feature_group_count=5, rngs=rngs()),
            norm=nnx.BatchNorm(10, use_running_average=True, rngs=rngs()),
            head=nnx.Linear(10, 2, rngs=rngs()),
        )
    )
    m = check(random(net), IMAGE)
    assert (m.conv.in_features, m.conv.out_features, m.conv.kernel.shape) == (3, 6, (3, 3, 3, 6))
    assert (m.blocks.in_features, m.blocks.out_features, m.blocks.feature_group_count) == (6, 10, 2)
    assert (m.up.in_features, m.up.out_features) == (10, 4)
    assert (m.deep.in_features, m.deep.out_features, m.deep.feature_group_count) == (4, 8, 4)
    assert m.norm.num_features == 8 and m.norm.mean.shape == (8,)
    assert (m.head.in_features, m.head.out_features) == (8, 2)


@pytest.mark.parametrize("cell", [nnx.GRUCell, nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.SimpleCell])
def test_gate_widths(cell):
    both = nnx.Bidirectional(*(nnx.RNN(cell(4, 3, rngs=rngs())) for _ in range(2)), rngs=rngs())
    m = check(random(nets.from_nnx(Stack(lambda m, x: m.d(m.r(x)), r=both, d=nnx.Linear(6, 2, rngs=rngs())))), SEQUENCE)
    for way in (m.r.forward_rnn, m.r.backward_rnn):
        assert (way.cell.in_features, way.cell.hidden_features) == (4, 2)
    assert m.d.in_features == 4


def test_heads_and_embeddings():
    net = nets.from_nnx(
        Stack(
            lambda m, x: m.d(m.a(m.e(x))),
            e=nnx.Embed(7, 4, rngs=rngs()),
            a=nnx.MultiHeadAttention(3, 4, qkv_features=6, decode=False, rngs=rngs()),
            d=nnx.Linear(4, 2, rngs=rngs()),
        )
    )
    m = check(random(net), jnp.asarray([[1, 2, 3]]))
    assert m.e.features == 3 and m.e.num_embeddings == 7
    assert (m.a.num_heads, m.a.in_features, m.a.qkv_features, m.a.out_features, m.a.head_dim) == (2, 3, 4, 3, 2)
    assert m.a.query.out_features == (2, 2) and m.a.out.in_features == (2, 2)


def test_blocks_cut_to_one_input_are_not_depthwise():
    net = nets.from_nnx(
        Stack(
            lambda m, x: m.d(m.n(m.b(m.a(x))).mean((1, 2))),
            a=nnx.Conv(3, 4, (1, 1), rngs=rngs()),
            b=nnx.Conv(4, 4, (2, 2), feature_group_count=2, rngs=rngs()),
            n=nnx.GroupNorm(4, num_groups=4, rngs=rngs()),
            d=nnx.Linear(4, 2, rngs=rngs()),
        )
    )
    m = check(random(net), IMAGE)
    assert (m.b.in_features, m.b.out_features, m.b.feature_group_count) == (2, 2, 2)
    assert (m.n.num_groups, m.n.group_size) == (2, 1)


def test_resizing_leaves_whole_modules_alone():
    module = nnx.Sequential(
        nnx.Conv(4, 8, (3, 3), feature_group_count=4, rngs=rngs()), nnx.GroupNorm(8, 4, rngs=rngs())
    )
    before = nnx.split(module)[0]
    resizing.resize(module)
    assert nnx.split(module)[0] == before


def test_lenet5_at_a_tenth_costs_what_its_arrays_say():
    net = nets.build("lenet5")
    x = jnp.zeros((1, 28, 28, 1))
    found = groups.trace(net, x)
    small = pruning.compact(net, found, [np.arange(2), np.arange(5), np.arange(50)], example=x)
    assert costs.macs(small, x) == {
        "conv1/kernel": 24 * 24 * 25 * 2, "conv2/kernel": 64 * 25 * 2 * 5, "ip1/kernel": 80 * 50, "ip2/kernel": 500
    }  # fmt: skip


def test_masks_by_ranks_keep_the_best_units_and_survive_the_disk(tmp_path):
    net = nets.build("lenet5")
    found = groups.trace(net, jnp.zeros((1, 28, 28, 1)))
    rank = masks.ranks(scores.random(jax.random.key(0), found), found)
    mask = jax.jit(lambda kept: masks.from_kept(net.params, found, rank, kept))(jnp.asarray([7, 20, 123]))
    assert list(masks.kept_counts(mask, found)) == [7, 20, 123]
    assert jax.tree.structure(mask) == jax.tree.structure(net.params)
    assert mask["conv2"]["kernel"].shape == (1, 1, 20, 50) and int(mask["conv2"]["kernel"].sum()) == 7 * 20
    masks.save_masks(tmp_path / "m", mask)
    jax.tree.map(np.testing.assert_array_equal, masks.load_masks(tmp_path / "m", net.params), mask)
    flags = [np.asarray(one) >= group.size - count for one, group, count in zip(rank, found, (7, 20, 123), strict=True)]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 28, 28, 1)), jnp.float32)
    small = pruning.compact(net, found, flags, example=x)
    whole = net.replace(params=masks.apply(net.params, mask))
    np.testing.assert_allclose(run(small, x), run(whole, x), atol=1e-5)
    assert costs.parameters(small.params).weights_total == costs.parameters(net.params, mask).weights_kept


def test_round_to_fills_up_with_zeros():
    net = random(nets.build("lenet5"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 28, 28, 1)), jnp.float32)
    found = groups.trace(net, x)
    kept = [np.arange(group.size) % 3 == 0 for group in found]
    small = pruning.compact(net, found, kept, example=x, round_to=8)
    assert [small.params[name]["bias"].size for name in ("conv1", "conv2", "ip1")] == [8, 24, 168]
    np.testing.assert_allclose(run(small, x), run(masked(net, found, kept), x), rtol=1e-4, atol=1e-4)


class Linen(linen.Module):
    widths: tuple[int, int] = (6, 5)

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(self.widths[0], (3, 3))(x))
        x = linen.relu(linen.Dense(self.widths[1])(linen.relu(x).mean((1, 2))))
        return linen.Dense(3)(x)


def test_linen_nets_are_built_from_widths():
    module = Linen()
    net = random(nets.from_linen(module, module.init(jax.random.key(0), IMAGE, False)))
    assert pruning.widths(net.params) == {"Conv_0": 6, "Dense_0": 5, "Dense_1": 3}
    variables = check(net, IMAGE, build=lambda widths: Linen((widths["Conv_0"], widths["Dense_0"])))
    assert variables["params"]["Dense_0"]["kernel"].shape == (5, 4)
    found = groups.trace(net, IMAGE)
    with pytest.raises(BadInput, match=r"its build, .*'Conv_0': 5"):
        pruning.compact(net, found, all_but_first(found))


def two(forward):
    return nets.from_nnx(Stack(forward, a=nnx.Linear(4, 8, rngs=rngs()), b=nnx.Linear(8, 8, rngs=rngs())))


def heads(m, x):
    """Four heads whatever the width is: cut to three they would be four again, and narrower."""
    batch, steps, _ = x.shape
    query = m.a(x).reshape(batch, steps, 4, -1)
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, query))
    return m.b(jnp.einsum("bhqk,bkhd->bqhd", weights, query).reshape(batch, steps, -1))


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda m, x: m.b(m.a(x).reshape(2, 5, 8)), "does not run"),
        (lambda m, x: m.b(m.a(x) / np.sqrt(m.a.out_features)), "the number 2.82843 in it has become 2.64575"),
        (lambda m, x: m.b(m.a(x)) if m.a.out_features == 8 else m.b(m.b(m.a(x))[..., :7]), "products instead of"),
    ],
)
def test_a_forward_that_hard_codes_a_width_is_refused(forward, says):
    net = two(forward)
    found = groups.trace(net, SEQUENCE)
    with pytest.raises(BadInput, match=says) as caught:
        pruning.compact(net, found, all_but_first(found), example=SEQUENCE)
    assert "hard-codes a width" in str(caught.value) and "\n" not in str(caught.value)


def test_a_single_unit_beside_what_stays():
    def forward(m, x):
        both = jnp.concatenate([m.a(x), x], -1)
        return m.b(both) + m.c(both)

    layers = {
        "a": nnx.Linear(4, 2, rngs=rngs()),
        "b": nnx.Linear(6, 3, rngs=rngs()),
        "c": nnx.Linear(6, 3, rngs=rngs()),
    }
    m = check(random(nets.from_nnx(Stack(forward, **layers))), SEQUENCE)
    assert (m.a.out_features, m.b.in_features, m.c.in_features) == (1, 5, 5)


def test_units_that_are_joined_in_another_way_are_seen():
    net = nets.from_nnx(Stack(heads, a=nnx.Linear(4, 16, rngs=rngs()), b=nnx.Linear(16, 8, rngs=rngs())))
    (group,) = groups.trace(net, SEQUENCE)
    assert group.size == 4
    with pytest.raises(BadInput, match="units of a/.* are joined in another way"):
        pruning.compact(net, [group], [[1, 2, 3]], example=SEQUENCE)


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ([np.zeros(8, bool)], "no unit of a is kept"),
        ([np.ones(7, bool)], "has 8 units"),
        ([[1, 8]], "indices below 8"),
        ([], "1 groups and 0 masks"),
    ],
)
def test_masks_that_do_not_fit_are_refused(kept, says):
    net = two(lambda m, x: m.b(m.a(x)))
    found = groups.trace(net, SEQUENCE)
    with pytest.raises(BadInput, match=says):
        pruning.compact(net, found, kept)


def test_groups_of_weights_or_of_another_net_are_refused():
    net = two(lambda m, x: m.b(m.a(x)))
    with pytest.raises(BadInput, match="group of single weights"):
        pruning.compact(net, groups.weight_groups(net.params)[:1], [[0]])
    other = groups.trace(nets.build("lenet5"), jnp.zeros((1, 28, 28, 1)))
    with pytest.raises(BadInput, match="another net"):
        pruning.compact(net, other[:1], [[0]])


def test_a_pure_function_keeps_its_apply():
    def apply(params, state, x, *, train, key):
        return jnp.tanh(x @ params["a"]) @ params["b"], state

    net = Net({"a": jnp.ones((4, 5)), "b": jnp.ones((5, 2))}, {}, apply=apply, rebuild=lambda params, state: params)
    small = pruning.compact(net, groups.trace(net, SEQUENCE), [[0, 3]], example=SEQUENCE)
    assert small.apply is apply and small.params["a"].shape == (4, 2) and small.params["b"].shape == (2, 2)
