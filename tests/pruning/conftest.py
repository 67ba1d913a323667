"""Small networks of any widths with their channel groups, written by hand: what is traced must come to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.types import Group, Net, Slot


class Plain(nnx.Module):
    """Two convolutions with batch norm and pooling, flattened into two dense layers."""

    def __init__(self, widths, rngs):
        one, two, three = widths
        self.conv1 = nnx.Conv(3, one, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(one, rngs=rngs)
        self.conv2 = nnx.Conv(one, two, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(two, rngs=rngs)
        self.ip1 = nnx.Linear(16 * two, three, rngs=rngs)
        self.ip2 = nnx.Linear(three, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.bn1(self.conv1(x))), (2, 2), (2, 2))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return self.ip2(nnx.relu(self.ip1(x.reshape(x.shape[0], -1))))


class Residual(nnx.Module):
    """A stem and a block whose sum shares its channels; the head takes the mean over pixels."""

    def __init__(self, widths, rngs):
        trunk, inner = widths
        self.stem = nnx.Conv(3, trunk, (3, 3), rngs=rngs)
        self.bn0 = nnx.BatchNorm(trunk, rngs=rngs)
        self.conv1 = nnx.Conv(trunk, inner, (3, 3), strides=2, rngs=rngs)
        self.bn1 = nnx.BatchNorm(inner, rngs=rngs)
        self.conv2 = nnx.Conv(inner, trunk, (1, 1), rngs=rngs)
        self.bn2 = nnx.BatchNorm(trunk, rngs=rngs)
        self.head = nnx.Linear(trunk, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn0(self.stem(x)))
        inner = nnx.relu(self.bn1(self.conv1(x)))
        return self.head(jnp.mean(nnx.relu(x[:, ::2, ::2] + self.bn2(self.conv2(inner))), axis=(1, 2)))


class Depthwise(nnx.Module):
    """Two branches side by side, the first one depthwise, joined by concatenation."""

    def __init__(self, widths, rngs):
        one, two, three = widths
        self.wide = nnx.Conv(3, one, (1, 1), rngs=rngs)
        self.deep = nnx.Conv(one, one, (3, 3), feature_group_count=one, rngs=rngs)
        self.side = nnx.Conv(3, two, (3, 3), rngs=rngs)
        self.join = nnx.Conv(one + two, three, (1, 1), rngs=rngs)
        self.head = nnx.Linear(three, 4, rngs=rngs)

    def __call__(self, x):
        x = jnp.concatenate([self.deep(nnx.relu(self.wide(x))), self.side(x)], -1)
        return self.head(jnp.mean(nnx.relu(self.join(nnx.relu(x))), axis=(1, 2)))


class Recurrent(nnx.Module):
    """A GRU over the rows of an image: hidden units in three gates, and on both axes of one kernel."""

    def __init__(self, widths, rngs):
        (hidden,) = widths
        self.rnn = nnx.RNN(nnx.GRUCell(24, hidden, rngs=rngs))
        self.head = nnx.Linear(hidden, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x.reshape(x.shape[0], 8, 24))[:, -1])


def channels(name: str, size: int, *places: Any) -> Group:
    """A group of slots, each given as (path, axis), (path, axis, starts) or with step and state too."""
    return Group(name, size, tuple(Slot(*place) for place in places))


def norm(name: str) -> tuple[Any, ...]:
    """Where a batch norm's channels sit, in parameters and state."""
    statistics = [(f"{name}/{leaf}", 0, (0,), 1, True) for leaf in ("mean", "var")]
    return ((f"{name}/scale", 0), (f"{name}/bias", 0), *statistics)


def plain_groups(widths: Any) -> tuple[Group, ...]:
    one, two, three = widths
    tiles = tuple(two * pixel for pixel in range(16))
    return (
        channels("conv1", one, ("conv1/kernel", 3), ("conv1/bias", 0), *norm("bn1"), ("conv2/kernel", 2)),
        channels("conv2", two, ("conv2/kernel", 3), *norm("bn2"), ("ip1/kernel", 0, tiles)),
        channels("ip1", three, ("ip1/kernel", 1), ("ip1/bias", 0), ("ip2/kernel", 0)),
    )


def residual_groups(widths: Any) -> tuple[Group, ...]:
    trunk, inner = widths
    out = [place for layer in ("stem", "conv2") for place in ((f"{layer}/kernel", 3), (f"{layer}/bias", 0))]
    return (
        channels("trunk", trunk, *out, *norm("bn0"), *norm("bn2"), ("conv1/kernel", 2), ("head/kernel", 0)),
        channels("inner", inner, ("conv1/kernel", 3), ("conv1/bias", 0), *norm("bn1"), ("conv2/kernel", 2)),
    )


def depthwise_groups(widths: Any) -> tuple[Group, ...]:
    one, two, three = widths
    own = [place for layer in ("wide", "deep") for place in ((f"{layer}/kernel", 3), (f"{layer}/bias", 0))]
    return (
        channels("wide", one, *own, ("join/kernel", 2)),
        channels("side", two, ("side/kernel", 3), ("side/bias", 0), ("join/kernel", 2, (one,))),
        channels("join", three, ("join/kernel", 3), ("join/bias", 0), ("head/kernel", 0)),
    )


def recurrent_groups(widths: Any) -> tuple[Group, ...]:
    (hidden,) = widths
    gates, cell = (0, hidden, 2 * hidden), "rnn/cell"
    return (
        channels("cell", hidden, (f"{cell}/dense_i/kernel", 1, gates), (f"{cell}/dense_i/bias", 0, gates),
                 (f"{cell}/dense_h/kernel", 1, gates), (f"{cell}/dense_h/kernel", 0),
                 ("head/kernel", 0)),
    )  # fmt: skip


class Architecture(NamedTuple):
    """``net(widths)`` and ``groups(widths)`` of a network, and the widths that it is pruned from."""

    module: Any
    groups: Callable[[Any], tuple[Group, ...]]
    widths: tuple[int, ...]

    def net(self, widths: Any = None, seed: int = 0) -> Net:
        """With random norm scales, biases and statistics, so that nothing is the same in two channels."""
        net = nets.from_nnx(self.module(self.widths if widths is None else tuple(widths), nnx.Rngs(seed)))
        keys = iter(jax.random.split(jax.random.key(seed), 99))

        def stirred(path: Any, leaf: Any) -> Any:
            noise = jax.random.uniform(next(keys), leaf.shape, minval=0.5, maxval=1.5)
            return noise if path[-1].key in ("scale", "var", "mean", "bias") else leaf

        stir = jax.tree_util.tree_map_with_path
        return net.replace(params=stir(stirred, net.params), state=stir(stirred, net.state))


ARCHITECTURES = {
    "plain": Architecture(Plain, plain_groups, (6, 8, 10)),
    "residual": Architecture(Residual, residual_groups, (8, 5)),
    "depthwise": Architecture(Depthwise, depthwise_groups, (6, 5, 7)),
    "recurrent": Architecture(Recurrent, recurrent_groups, (7,)),
}


@pytest.fixture(params=ARCHITECTURES, scope="session")
def architecture(request: Any) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture(scope="session")
def architectures() -> dict[str, Architecture]:
    return ARCHITECTURES


@pytest.fixture(scope="session")
def images() -> Any:
    """Of one example."""
    return jnp.zeros((1, 8, 8, 3))
