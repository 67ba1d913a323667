"""Groups of small nets against tables written by hand, one for each family of primitives; what freezes says so."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.pruning import groups
from jax_prune.types import Net, Slot

pytestmark = pytest.mark.compat
IMAGE, SEQUENCE, ROW = jnp.ones((2, 8, 8, 4)), jnp.ones((2, 5, 4)), jnp.ones((2, 4))


def pure(function, **shapes):
    """A net of plain functions: ``function(params, x)``, parameters of ones."""

    def apply(params, state, x, *, train, key):
        return function(params, x), state

    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    return Net(params, {}, apply=apply, rebuild=lambda params, state: params)


def table(found):
    """{name: (size, {(path, axis): (starts, step)})}"""
    return {
        group.name: (group.size, {(slot.path, slot.axis): (slot.starts, slot.step) for slot in group.slots})
        for group in found
    }


def reasons(net, x):
    """{(path, axis): reason} of what stays."""
    frozen = groups.traced(net, x).frozen
    return {(slot.path, slot.axis): entry.reason for entry in frozen for slot in entry.group.slots}


def simple(*leaves, size=6):
    return (size, {leaf: ((0,), 1) for leaf in leaves})


def between(middle, *, x=ROW, width=6, after=6, **shapes):
    """x @ a, then ``middle(params, hidden)``, then @ b."""
    return pure(lambda p, x: middle(p, x @ p["a"]) @ p["b"], a=(4, width), b=(after, 3), **shapes), x


HIDDEN = {"a": simple(("a", 1), ("b", 0))}
GRID = np.arange(6.0) + 1


@pytest.mark.parametrize(
    ("middle", "options"),
    [
        (lambda p, h: jax.nn.relu(h) * 2 + 1, {}),
        (lambda p, h: jnp.where(h > 0, h, 0), {}),
        (lambda p, h: h.T.reshape(6, 2).T, {}),
        (lambda p, h: jnp.squeeze(h[:, None, :], 1), {}),
        (lambda p, h: lax.dynamic_slice(h, (1, 0), (1, 6)), {}),
        (lambda p, h: jnp.broadcast_to(h[:, None], (2, 3, 6)).max(1), {}),
        (lambda p, h: jax.jit(jnp.tanh)(jax.checkpoint(jnp.sin)(jax.nn.silu(h))), {}),
        (lambda p, h: jnp.tile(h, (3, 1))[:2] + jnp.stack([h, h])[0], {}),
        (lambda p, h: lax.cond(h.shape[0] > 1, jnp.sin, jnp.cos, h), {}),
        (lambda p, h: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + h, jnp.zeros_like(h)), {}),
        (lambda p, h: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + 1), (h, 0))[0], {}),
        (lambda p, h: jnp.cumsum(h, axis=0), {}),
        (lambda p, h: jnp.sort(h, axis=0), {}),
        (lambda p, h: h - h.mean(0), {}),
    ],
)
def test_what_moves_no_unit_passes(middle, options):
    net, x = between(middle, **options)
    assert table(groups.trace(net, x)) == HIDDEN


def test_a_scan_carries_units():
    def run(p, h):
        def turn(carry, x):
            carry = jnp.tanh(carry @ p["r"] + x)
            return carry, carry

        return lax.scan(turn, jnp.zeros((2, 6)), jnp.stack([h, h]))[1][-1]

    net, x = between(run, r=(6, 6))
    assert table(groups.trace(net, x)) == {"a": simple(("a", 1), ("b", 0), ("r", 0), ("r", 1))}


@pytest.mark.parametrize(
    ("middle", "says"),
    [
        (lambda p, h: h - h.mean(-1, keepdims=True), "reduce_sum over it"),
        (lambda p, h: jax.nn.softmax(h), "reduce_max over it"),
        (lambda p, h: jnp.cumsum(h, -1), "cumsum over it"),
        (lambda p, h: jnp.sort(h, -1), "sort over it"),
        (lambda p, h: h * jnp.argmax(h, -1, keepdims=True), "argmax over it"),
        (lambda p, h: jnp.fft.fft(h).real, "fft is not known to the tracer"),
        (lambda p, h: h * GRID, "mul with a constant that varies along it"),
        (lambda p, h: h[:, jnp.asarray([2, 1, 0, 3, 4, 5])], "gather looks up positions of it"),
        (
            lambda p, h: lax.dynamic_slice(jnp.tile(h, 2), (0, jnp.argmax(h[0, 0] > 0)), (2, 6)),
            "dynamic_slice looks up",
        ),
        (lambda p, h: lax.reduce_window(h, 0.0, lax.add, (1, 3), (1, 1), "SAME"), "reduce_window_sum over it"),
        (lambda p, h: h * jnp.einsum("bi,ci->bc", h, h)[:, :1], "product of two activations: heads are whole units"),
        (lambda p, h: lax.scan(lambda c, x: (c + x, x), 0.0, h.sum(0))[1][None] + h, "scan runs along it"),
        (lambda p, h: h / p["s"], "div of parameters that a mask makes zero"),
    ],
)
def test_what_mixes_units_freezes_them_by_name(middle, says):
    net, x = between(middle, s=(6,))
    assert groups.trace(net, x) == ()
    assert re.search(says, reasons(net, x)["a", 1])


def test_one_unit_that_all_others_meet_stays_alone():
    net, x = between(lambda p, h: h * h[:, :1])
    assert table(groups.trace(net, x)) == {"a": (5, {("a", 1): ((1,), 1), ("b", 0): ((1,), 1)})}
    assert "repeats one of them" in reasons(net, x)["a", 1]


def test_inputs_and_outputs_stay():
    found = reasons(*between(lambda p, h: h))
    assert found == {("a", 0): "dot_general with the network's input", ("b", 1): "the network's output"}


def test_unused_parameters_stay():
    assert reasons(*between(lambda p, h: h, u=(3, 3)))["u", 0] == "the network does not use it"


def test_concatenation_offsets_the_consumer():
    net = pure(lambda p, x: jnp.concatenate([x @ p["a"], x @ p["b"]], -1) @ p["c"], a=(4, 3), b=(4, 5), c=(8, 2))
    assert table(groups.trace(net, ROW)) == {
        "a": (3, {("a", 1): ((0,), 1), ("c", 0): ((0,), 1)}),
        "b": (5, {("b", 1): ((0,), 1), ("c", 0): ((3,), 1)}),
    }


def test_slices_split_a_group_and_products_join_it():
    net = pure(lambda p, x: (x @ p["a"])[:, :3] @ p["b"] + (x @ p["a"])[:, 3:] @ p["c"], a=(4, 6), b=(3, 2), c=(3, 2))
    assert table(groups.trace(net, ROW)) == {
        "a": (3, {("a", 1): ((0,), 1), ("b", 0): ((0,), 1)}),
        "a#2": (3, {("a", 1): ((3,), 1), ("c", 0): ((0,), 1)}),
    }
    net, x = between(lambda p, h: lax.slice(h, (0, 0), (2, 6), (1, 2)) * lax.slice(h, (0, 1), (2, 6), (1, 2)), after=3)
    assert table(groups.trace(net, x)) == {"a": (3, {("a", 1): ((0, 1), 2), ("b", 0): ((0,), 1)})}


def test_rev_counts_backwards():
    net, x = between(lambda p, h: h[:, ::-1])
    assert table(groups.trace(net, x)) == {"a": (6, {("a", 1): ((0,), 1), ("b", 0): ((5,), -1)})}


def test_padded_channels_stay():
    """The parameter-free shortcut of ResNets for CIFAR."""
    net = pure(lambda p, x: (jnp.pad(x @ p["a"], ((0, 0), (1, 2))) + x @ p["b"]) @ p["c"], a=(4, 3), b=(4, 6), c=(6, 2))
    assert table(groups.trace(net, ROW)) == {"a": (3, {("a", 1): ((0,), 1), ("b", 1): ((1,), 1), ("c", 0): ((1,), 1)})}
    assert reasons(net, ROW)["b", 1] == "pad adds positions of its own"


def test_flattening_tiles_channels_last_and_repeats_channels_first():
    net = pure(lambda p, x: conv(x, p["k"]).reshape(2, -1) @ p["d"], k=(1, 1, 4, 6), d=(384, 3))
    assert table(groups.trace(net, IMAGE))["k"][1]["d", 0] == (tuple(range(0, 384, 6)), 1)
    net = pure(lambda p, x: conv(x, p["k"]).transpose(0, 3, 1, 2).reshape(2, -1) @ p["d"], k=(1, 1, 4, 6), d=(384, 3))
    assert table(groups.trace(net, IMAGE))["k"][1]["d", 0] == (tuple(range(64)), 64)


def test_a_dense_layer_made_into_an_image_has_its_last_axis_as_units():
    net = pure(lambda p, x: conv((x @ p["a"]).reshape(2, 2, 2, 6), p["k"]).mean((1, 2)), a=(4, 24), k=(3, 3, 6, 3))
    assert table(groups.trace(net, ROW)) == {"a": (6, {("a", 1): ((0, 6, 12, 18), 1), ("k", 2): ((0,), 1)})}


def conv(x, kernel, **options):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def test_depthwise_and_grouped_convolutions():
    def body(p, x):
        x = conv(conv(x, p["k"]), p["deep"], feature_group_count=6)
        return conv(conv(x, p["blocks"], feature_group_count=3), p["out"])

    net = pure(body, k=(3, 3, 4, 6), deep=(3, 3, 1, 12), blocks=(3, 3, 4, 9), out=(1, 1, 9, 2))
    found = table(groups.trace(net, IMAGE))
    # an input has two neighbouring outputs, and place i of the three blocks of four goes together: two units are left
    assert found["k"] == (
        2,
        {("k", 3): ((0, 2, 4), 1), ("deep", 3): ((0, 1, 4, 5, 8, 9), 2), ("blocks", 2): ((0, 1), 2)},
    )
    assert found["blocks"] == (3, {("blocks", 3): ((0, 3, 6), 1), ("out", 2): ((0, 3, 6), 1)})


class Stack(nnx.Module):
    """``forward(layers, x)``."""

    def __init__(self, forward, **layers):
        self.forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.forward(self, x)


def rngs():
    return nnx.Rngs(0)


NORMS = {
    "batch": (lambda: nnx.BatchNorm(6, rngs=rngs()), True),
    "layer": (lambda: nnx.LayerNorm(6, rngs=rngs()), False),
    "group": (lambda: nnx.GroupNorm(6, num_groups=3, rngs=rngs()), False),
}
if hasattr(nnx, "InstanceNorm"):  # which older Flax lacks
    NORMS["instance"] = (lambda: nnx.InstanceNorm(6, rngs=rngs()), True)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_norms(norm, train):
    make, passes = NORMS[norm]
    net = nets.from_nnx(
        Stack(
            lambda m, x: m.d(m.n(m.c(x)).mean((1, 2))),
            c=nnx.Conv(4, 6, (3, 3), rngs=rngs()),
            n=make(),
            d=nnx.Linear(6, 2, rngs=rngs()),
        )
    )
    found = groups.trace(net, IMAGE, train=train)
    assert [group.name for group in found] == (["c"] if passes else [])
    if passes:
        statistics = {slot.path for slot in found[0].slots if slot.state}
        assert statistics == ({"n/mean", "n/var"} if norm == "batch" else set())
        assert {slot.path for slot in found[0].slots if not slot.state} >= {"c/kernel", "n/scale", "n/bias", "d/kernel"}
    else:
        assert reasons(net, IMAGE)["c/kernel", 3] == "reduce_sum over it"


def test_residual_and_dense_and_inception_shapes():
    def residual(p, x):
        stream = conv(x, p["stem"])
        for name in "12":
            stream = stream + conv(jax.nn.relu(conv(stream, p["in" + name])), p["out" + name])
        return conv(stream, p["head"])

    shapes = {"stem": (1, 1, 4, 6), "head": (1, 1, 6, 2)}
    shapes |= {"in1": (3, 3, 6, 5), "out1": (3, 3, 5, 6), "in2": (3, 3, 6, 4), "out2": (3, 3, 4, 6)}
    assert table(groups.trace(pure(residual, **shapes), IMAGE)) == {
        "stem": simple(("stem", 3), ("in1", 2), ("out1", 3), ("in2", 2), ("out2", 3), ("head", 2)),
        "in1": simple(("in1", 3), ("out1", 2), size=5),
        "in2": simple(("in2", 3), ("out2", 2), size=4),
    }

    def dense(p, x):
        x = conv(x, p["stem"])
        for name in "12":
            x = jnp.concatenate([x, conv(x, p["grow" + name])], -1)
        return conv(x, p["head"])

    shapes = {"stem": (1, 1, 4, 6), "grow1": (3, 3, 6, 3), "grow2": (3, 3, 9, 3), "head": (1, 1, 12, 2)}
    assert table(groups.trace(pure(dense, **shapes), IMAGE)) == {
        "stem": simple(("stem", 3), ("grow1", 2), ("grow2", 2), ("head", 2)),
        "grow1": (3, {("grow1", 3): ((0,), 1), ("grow2", 2): ((6,), 1), ("head", 2): ((6,), 1)}),
        "grow2": (3, {("grow2", 3): ((0,), 1), ("head", 2): ((9,), 1)}),
    }

    def inception(p, x):
        pool = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        branches = [conv(x, p["one"]), conv(conv(x, p["less"]), p["three"]), conv(pool, p["pooled"])]
        return conv(jnp.concatenate(branches, -1), p["head"])

    shapes = {"one": (1, 1, 4, 2), "less": (1, 1, 4, 3), "three": (3, 3, 3, 4), "pooled": (1, 1, 4, 5)}
    assert table(groups.trace(pure(inception, head=(1, 1, 11, 2), **shapes), IMAGE)) == {
        "one": (2, {("one", 3): ((0,), 1), ("head", 2): ((0,), 1)}),
        "less": simple(("less", 3), ("three", 2), size=3),
        "three": (4, {("three", 3): ((0,), 1), ("head", 2): ((2,), 1)}),
        "pooled": (5, {("pooled", 3): ((0,), 1), ("head", 2): ((6,), 1)}),
    }


def test_heads_are_whole_units_written_either_way():
    attention = nnx.MultiHeadAttention(2, 4, qkv_features=6, decode=False, rngs=rngs())
    net = nets.from_nnx(Stack(lambda m, x: m.d(m.a(x)), a=attention, d=nnx.Linear(4, 2, rngs=rngs())))
    (heads, out) = groups.trace(net, SEQUENCE)
    assert heads.size == 2 and out.name == "a/out" and out.size == 4
    leaves = {("a/out/kernel", 0)}
    leaves |= {
        (f"a/{part}/{leaf}", axis) for part in ("query", "key", "value") for leaf, axis in (("kernel", 1), ("bias", 0))
    }
    assert table([heads])["a/query"][1] == {leaf: ((0,), 1) for leaf in leaves}
    assert reasons(net, SEQUENCE)["a/value/kernel", 2] == "product of two activations: heads are whole units"

    def split(p, x):
        query, key, value = ((x @ p[name]).reshape(2, 5, 2, 3) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(3))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(2, 5, 6) @ p["o"]

    net = pure(split, q=(4, 6), k=(4, 6), v=(4, 6), o=(6, 2))
    line = ((0, 1, 2), 3)
    assert table(groups.trace(net, SEQUENCE)) == {
        "q": (2, {("q", 1): line, ("k", 1): line, ("v", 1): line, ("o", 0): line})
    }


CELLS = {
    nnx.GRUCell: ({"dense_i": 3}, {"dense_h": 3}, ("dense_i",)),
    nnx.OptimizedLSTMCell: ({"dense_i": 4}, {"dense_h": 4}, ("dense_h",)),
    nnx.LSTMCell: (
        dict.fromkeys(["ii", "if_", "ig", "io"], 1),
        dict.fromkeys(["hi", "hf", "hg", "ho"], 1),
        ("hi", "hf", "hg", "ho"),
    ),
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_recurrent_cells_in_both_directions(cell):
    both = nnx.Bidirectional(*(nnx.RNN(cell(4, 3, rngs=rngs())) for _ in range(2)), rngs=rngs())
    net = nets.from_nnx(Stack(lambda m, x: m.d(m.r(x)), r=both, d=nnx.Linear(6, 2, rngs=rngs())))
    found = groups.trace(net, SEQUENCE)
    inputs, recurrent, biased = CELLS[cell]
    for group, way, offset in zip(found, ("forward", "backward"), (0, 3), strict=True):
        blocks = {name: tuple(range(0, 3 * count, 3)) for name, count in (inputs | recurrent).items()}
        slots = {Slot(f"r/{way}_rnn/cell/{name}/kernel", 1, starts) for name, starts in blocks.items()}
        slots |= {Slot(f"r/{way}_rnn/cell/{name}/kernel", 0) for name in recurrent}
        slots |= {Slot(f"r/{way}_rnn/cell/{name}/bias", 0, blocks[name]) for name in biased}
        assert group.size == 3 and set(group.slots) == slots | {Slot("d/kernel", 0, (offset,))}


def test_an_embedding_keeps_its_vocabulary():
    net = nets.from_nnx(
        Stack(lambda m, x: m.d(m.e(x)), e=nnx.Embed(7, 4, rngs=rngs()), d=nnx.Linear(4, 2, rngs=rngs()))
    )
    words = jnp.zeros((2, 5), int)
    assert table(groups.trace(net, words)) == {"e": simple(("e/embedding", 1), ("d/kernel", 0), size=4)}
    assert reasons(net, words)["e/embedding", 0] == "gather looks up positions of it"


def test_linen_nets_are_traced_alike():
    class Small(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            x = linen.BatchNorm(use_running_average=not train)(linen.Conv(6, (3, 3))(x))
            return linen.Dense(3)(linen.relu(x).mean((1, 2)))

    module = Small()
    net = nets.from_linen(module, module.init(jax.random.key(0), IMAGE, False))
    for train in (False, True):
        (group,) = groups.trace(net, IMAGE, train=train)
        assert group.name == "Conv_0" and group.size == 6
        assert {slot.path for slot in group.slots if slot.state} == {
            "batch_stats/BatchNorm_0/mean",
            "batch_stats/BatchNorm_0/var",
        }


def test_nothing_is_computed_and_shapes_are_enough():
    net = nets.build("lenet5")
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), net.params)
    example = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    assert [(g.name, g.size) for g in groups.trace(net.replace(params=abstract), example)] == [
        ("conv1", 20),
        ("conv2", 50),
        ("ip1", 500),
    ]


def test_an_example_of_the_wrong_shape_is_refused():
    with pytest.raises(
        BadInput, match=r"cannot take an example of shape \[2, 9, 9, 1\] .*give one as it is called with"
    ):
        groups.trace(nets.build("lenet5"), jnp.ones((2, 9, 9, 1)))


@pytest.mark.parametrize("middle", [lambda p, h: h if h.sum() > 0 else -h, lambda p, h: h[h > 0]])
def test_a_net_that_depends_on_its_data_is_refused(middle):
    with pytest.raises(BadInput, match="shapes or branches depend on its data"):
        groups.trace(*between(middle))


def test_two_hundred_convolutions_take_seconds():
    """A DenseNet of 100 layers of two convolutions, growth 32: seconds of CPU beyond jax.make_jaxpr."""
    spec = jax.ShapeDtypeStruct
    params, width = {"stem": spec((3, 3, 4, 64), jnp.float32)}, 64
    for layer in range(100):
        params |= {f"scale{layer}": spec((width,), jnp.float32), f"less{layer}": spec((1, 1, width, 128), jnp.float32)}
        params |= {f"inner{layer}": spec((128,), jnp.float32), f"more{layer}": spec((3, 3, 128, 32), jnp.float32)}
        width += 32
    params["head"] = spec((width, 10), jnp.float32)

    def apply(params, state, x, *, train, key):
        x = conv(x, params["stem"])
        for layer in range(100):
            y = conv(jax.nn.relu((x - x.mean((0, 1, 2))) * params[f"scale{layer}"]), params[f"less{layer}"])
            y = conv(jax.nn.relu((y - y.mean((0, 1, 2))) * params[f"inner{layer}"]), params[f"more{layer}"])
            x = jnp.concatenate([x, y], -1)
        return x.mean((1, 2)) @ params["head"], state

    net = Net(params, {}, apply=apply, rebuild=lambda params, state: params)
    start = time.process_time()
    jax.make_jaxpr(lambda params, x: apply(params, {}, x, train=False, key=None))(params, IMAGE)
    alone = time.process_time() - start
    start = time.process_time()
    found = groups.trace(net, IMAGE)
    assert time.process_time() - start - alone < 3
    assert [group.size for group in found] == [64, *[128, 32] * 100]
    assert found[-1].slots == (Slot("more99", 3), Slot("head", 0, (width - 32,)))
