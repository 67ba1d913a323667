"""Gates where a layer's activations are made: against networks that say themselves where their gates are."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.nets import gating
from jax_prune.nets.lowering import conv_general
from jax_prune.pruning import groups, masks
from jax_prune.types import Group, Slot

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 8, 8, 3)).astype(np.float32)


def open_all(name, x):
    return x


class Plain(nnx.Module):
    """conv, batch norm, ReLU; conv without norm, flattened; dense."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), strides=2, conv_general_dilated=conv_general, rngs=rngs)
        self.dense = nnx.Linear(96, 7, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x, gate=open_all):
        x = nnx.relu(gate("conv1", self.norm1(self.conv1(x))))
        x = nnx.gelu(gate("conv2", self.conv2(x)))
        x = jnp.tanh(gate("dense", self.dense(x.reshape(x.shape[0], -1))))
        return self.head(self.dropout(x))


PLAIN = (
    Group("conv1", 4, (Slot("conv1/kernel", 3), Slot("conv1/bias", 0), Slot("norm1/scale", 0), Slot("norm1/bias", 0),
                       Slot("norm1/mean", 0, state=True), Slot("conv2/kernel", 2))),
    Group("conv2", 6, (Slot("conv2/kernel", 3), Slot("conv2/bias", 0),
                       Slot("dense/kernel", 0, tuple(range(0, 96, 6))))),
    Group("dense", 7, (Slot("dense/kernel", 1), Slot("dense/bias", 0), Slot("head/kernel", 0))),
)  # fmt: skip


class Residual(nnx.Module):
    """Two producers of one group, a depthwise one of another, and a block that is jitted or computed again."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_bias=False, rngs=rngs)
        self.inner = nnx.Conv(4, 5, (1, 1), rngs=rngs)
        self.depthwise = nnx.Conv(5, 5, (3, 3), feature_group_count=5, rngs=rngs)
        self.outer = nnx.Conv(5, 4, (1, 1), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x, gate=open_all):
        x = nnx.relu(gate("stream", self.norm(self.stem(x))))
        block = partial(self.block, gate)
        x = nnx.relu(x + (jax.checkpoint(block) if gate is open_all else block)(x))
        return self.head(x.mean((1, 2)))

    def block(self, gate, x):
        first = lambda x: nnx.relu(gate("inner", self.inner(x)))  # noqa: E731
        y = jax.jit(first)(x) if gate is open_all else first(x)
        y = nnx.relu(gate("inner", self.depthwise(y)))
        return gate("stream", self.outer(y))


RESIDUAL = (
    Group("stream", 4, (Slot("stem/kernel", 3), Slot("norm/scale", 0), Slot("inner/kernel", 2), Slot("outer/kernel", 3),
                        Slot("outer/bias", 0), Slot("head/kernel", 0))),
    Group("inner", 5, (Slot("inner/kernel", 3), Slot("inner/bias", 0), Slot("depthwise/kernel", 3),
                       Slot("depthwise/bias", 0), Slot("outer/kernel", 2))),
)  # fmt: skip


class DenseBlock(nnx.Module):
    """Norms before convolutions, over concatenated channels: gates belong after every such norm."""

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Conv(4, 5, (3, 3), rngs=rngs)
        self.norm2 = nnx.BatchNorm(9, rngs=rngs)
        self.head = nnx.Linear(9, 3, rngs=rngs)

    def __call__(self, x, gate=open_all):
        x = self.first(x)
        y = self.second(nnx.relu(gate("first", self.norm1(x))))
        z = self.norm2(jnp.concatenate([x, y], axis=-1))
        z = jnp.concatenate([gate("first", z[..., :4]), gate("second", z[..., 4:])], axis=-1)
        return self.head(nnx.relu(z).mean((1, 2)))


DENSE_BLOCK = (
    Group("first", 4, (Slot("first/kernel", 3), Slot("first/bias", 0), Slot("norm1/scale", 0), Slot("norm1/bias", 0),
                       Slot("second/kernel", 2), Slot("norm2/scale", 0), Slot("norm2/bias", 0),
                       Slot("head/kernel", 0))),
    Group("second", 5, (Slot("second/kernel", 3), Slot("second/bias", 0), Slot("norm2/scale", 0, (4,)),
                        Slot("norm2/bias", 0, (4,)), Slot("head/kernel", 0, (4,)))),
)  # fmt: skip


class Heads(nnx.Module):
    """Units in the middle of a leaf's axes, after examples and positions."""

    def __init__(self, rngs):
        self.lift = nnx.LinearGeneral(3, (4, 2), rngs=rngs)
        self.head = nnx.LinearGeneral((4, 2), 3, axis=(-2, -1), rngs=rngs)

    def __call__(self, x, gate=open_all):
        x = self.lift(x.reshape(x.shape[0], -1, 3))
        x = jnp.moveaxis(gate("heads", jnp.moveaxis(x, 2, -1)), -1, 2)
        return self.head(x).mean(1)


HEADS = (Group("heads", 4, (Slot("lift/kernel", 1), Slot("lift/bias", 0), Slot("head/kernel", 0))),)


class Linear(linen.Module):
    """The same way with Linen."""

    @linen.compact
    def __call__(self, x, train: bool = False, gate=open_all):
        x = linen.Conv(4, (3, 3), use_bias=False)(x)
        x = linen.relu(gate("Conv_0", linen.BatchNorm(use_running_average=not train)(x)))
        x = linen.relu(gate("Conv_1", linen.Conv(5, (3, 3))(x)))
        x = linen.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return linen.Dense(3)(x)


LINEN = (
    Group("Conv_0", 4, (Slot("Conv_0/kernel", 3), Slot("BatchNorm_0/scale", 0), Slot("BatchNorm_0/bias", 0),
                        Slot("Conv_1/kernel", 2))),
    Group("Conv_1", 5, (Slot("Conv_1/kernel", 3), Slot("Conv_1/bias", 0), Slot("Dense_0/kernel", 0))),
)  # fmt: skip


class Case(NamedTuple):
    net: Any
    groups: tuple[Group, ...]
    module: Any = None  # of Linen

    def explicit(self, params, state, gate, *, train, key):
        """Outputs and state of the network with its own gates."""
        if self.module is not None:
            variables, streams = {"params": params, **state}, {"dropout": key} if train else None
            if train:
                return self.module.apply(variables, X, train=True, gate=gate, rngs=streams, mutable=list(state))
            return self.module.apply(variables, X, gate=gate), state
        model = self.net.apply.definition.merge(params, state, jax.random.key(0) if key is None else key)
        model.set_attributes(deterministic=not train, use_running_average=not train, raise_if_not_found=False)
        outputs = model(X, gate)
        moved = nets.from_nnx(model).state
        return outputs, moved if train else state


def perturbed(net):
    """Random biases, scales and statistics, so that nothing hides behind ones and zeros."""
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.2 * rng.normal(size=leaf.shape), jnp.float32), net.params)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.2 * rng.random(leaf.shape), jnp.float32), net.state)
    return net.replace(params=params, state=state)


def cases():
    flat = {"plain": (Plain, PLAIN), "residual": (Residual, RESIDUAL), "block": (DenseBlock, DENSE_BLOCK),
            "heads": (Heads, HEADS)}  # fmt: skip
    found = {name: Case(perturbed(nets.from_nnx(of(nnx.Rngs(0)))), own) for name, (of, own) in flat.items()}
    module = Linear()
    net = nets.from_linen(module, module.init(jax.random.key(0), X))
    return found | {"linen": Case(perturbed(net), LINEN, module)}


CASES = cases()
each_net = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_mode = pytest.mark.parametrize(("train", "key"), [(False, None), (True, jax.random.key(3))], ids=["eval", "train"])


def drawn(groups, examples=None):
    rng = np.random.default_rng(2)
    shape = () if examples is None else (examples,)
    return tuple(jnp.asarray(rng.normal(1, 0.5, (*shape, group.size)), jnp.float32) for group in groups)


def multiplied(groups, gates):
    """The gate function of a network with gates of its own."""
    by_name = {group.name: own for group, own in zip(groups, gates, strict=True)}

    def gate(name, x):
        own = by_name[name]
        return x * (own if own.ndim == 1 else own.reshape(len(own), *[1] * (x.ndim - 2), -1))

    return gate


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def gated_run(case, train, key):
    """``run(gates)``, compiled."""
    gated = gating.gate(case.net, case.groups, X)
    assert gated.reasons == ("",) * len(case.groups)
    return jax.jit(lambda gates: gated.apply(case.net.params, case.net.state, X, gates, train=train, key=key))


def bare(case, train, key):
    return jax.jit(lambda: case.net.apply(case.net.params, case.net.state, X, train=train, key=key))()


@pytest.mark.compat
@each_net
@each_mode
def test_gates_of_one_change_nothing(case, train, key):
    run, expected = gated_run(case, train, key), bare(case, train, key)
    for gates in (gating.ones(case.groups), tuple(jnp.ones((5, group.size)) for group in case.groups)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), run(gates), expected)


@pytest.mark.compat
@each_net
@each_mode
def test_gates_are_where_the_network_itself_would_have_them(case, train, key):
    run, without = gated_run(case, train, key), bare(case, train, key)
    explicit = jax.jit(
        lambda gates: case.explicit(
            case.net.params, case.net.state, multiplied(case.groups, gates), train=train, key=key
        )
    )
    for examples in (None, 5):
        gates = drawn(case.groups, examples)
        found = run(gates)
        close(found, explicit(gates))
        assert np.abs(found[0] - without[0]).max() > 1e-2


@each_net
def test_gates_of_zero_are_channels_that_are_gone(case):
    flags = tuple(jnp.arange(group.size) % 2 == 1 for group in case.groups)
    removal = masks.scatter(masks.full(case.net.params), case.net.params, case.groups, flags)
    masked = case.net.replace(params=masks.apply(case.net.params, removal))
    found, _ = gated_run(case, False, None)(tuple(flag.astype(jnp.float32) for flag in flags))
    close(found, bare(case._replace(net=masked), False, None)[0])


@each_net
@each_mode
def test_slopes_by_example_are_sums_over_positions_of_gradient_times_activation(case, train, key):
    """The predecessor's backward hook: with g = dL/da, a before its gate, and gates of one."""
    run = gated_run(case, train, key)
    found = jax.jit(jax.grad(lambda gates: (run(gates)[0] ** 2).mean()))(
        tuple(jnp.ones((5, group.size)) for group in case.groups)
    )

    def explicit(gate):
        return case.explicit(case.net.params, case.net.state, gate, train=train, key=key)[0]

    names: list[str] = []

    def shapes():
        taps = []
        explicit(lambda name, x: (names.append(name), taps.append(x), x)[2])
        return taps

    def tapped(taps):
        left, activations = iter(taps), []

        def gate(name, x):
            activations.append(x)
            return x + next(left)

        return (explicit(gate) ** 2).mean(), activations

    taps = [jnp.zeros(tap.shape) for tap in jax.eval_shape(shapes)]
    gradients, activations = jax.jit(jax.grad(tapped, has_aux=True))(taps)
    for group, slopes in zip(case.groups, found, strict=True):
        pairs = [(g, a) for name, a, g in zip(names, activations, gradients, strict=True) if name == group.name]
        assert pairs
        expected = sum((g * a).reshape(5, -1, group.size).sum(1) for g, a in pairs)
        np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-5)


def test_positions_are_height_times_width():
    assert gating.gate(CASES["plain"].net, PLAIN, X).positions == (64, 16, 1)


@pytest.mark.compat
def test_other_weights_compile_nothing():
    case, other = CASES["plain"], perturbed(nets.from_nnx(Plain(nnx.Rngs(7))))
    first, second = gating.gate(case.net, PLAIN, X), gating.gate(other, PLAIN, X)
    assert first.apply == second.apply and hash(first.apply) == hash(second.apply)
    run = jax.jit(lambda apply, *rest: apply(*rest, train=True, key=None), static_argnums=0)
    run(first.apply, case.net.params, case.net.state, X, gating.ones(PLAIN))
    run(second.apply, other.params, other.state, X, drawn(PLAIN))
    assert run._cache_size() == 1


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (8,), strides=8, rngs=rngs)
        self.rnn = nnx.RNN(nnx.SimpleCell(4, 6, rngs=rngs))
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(self.conv(x.reshape(x.shape[0], -1, 3)))[:, -1])


def test_what_a_loop_hides_is_named_and_its_gate_changes_nothing():
    net = nets.from_nnx(Recurrent(nnx.Rngs(0)))
    cell = "rnn/cell/"
    both = (
        Group("conv", 4, (Slot("conv/kernel", 2), Slot("conv/bias", 0), Slot(cell + "dense_i/kernel", 0))),
        Group("rnn", 6, (Slot(cell + "dense_i/kernel", 1), Slot(cell + "dense_i/bias", 0),
                         Slot(cell + "dense_h/kernel", 0), Slot(cell + "dense_h/kernel", 1), Slot("head/kernel", 0))),
    )  # fmt: skip
    gated = gating.gate(net, both, X)
    assert gated.reasons == ("", "a gate would belong inside a scan")

    @jax.jit
    def run(*gates):
        return gated.apply(net.params, net.state, X, gates, train=False, key=None)[0]

    expected = jax.jit(lambda: net(X))()
    close(run(jnp.ones(4), jnp.zeros(6)), expected)
    assert np.abs(run(jnp.zeros(4), jnp.ones(6)) - expected).max() > 1e-2


def test_single_weights_have_no_gates():
    net = CASES["plain"].net
    gated = gating.gate(net, groups.weight_groups(net.params), X)
    assert set(gated.reasons) == {"its units are single weights"}


class Merged(nnx.Module):
    """Examples and positions in one axis, where no example has a gate of its own."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        hidden = nnx.relu(self.dense(x.reshape(-1, 3)))
        return self.head(hidden).reshape(x.shape[0], -1, 3).mean(1)


def test_examples_that_share_an_axis_are_named():
    own = (Group("dense", 4, (Slot("dense/kernel", 1), Slot("dense/bias", 0), Slot("head/kernel", 0))),)
    (reason,) = gating.gate(nets.from_nnx(Merged(nnx.Rngs(0))), own, X).reasons
    assert "share an axis" in reason


def test_groups_of_another_net_are_refused():
    with pytest.raises(BadInput, match="group conv1 has no slot"):
        gating.gate(CASES["residual"].net, PLAIN, X)
