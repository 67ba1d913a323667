"""Dynamic Channel Propagation's rule against NumPy, line by line, and against torch's own hooks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.nets import gating
from jax_prune.pruning import utility
from jax_prune.types import Group, Slot

SIZES = (5, 8, 3)
GROUPS = tuple(Group(f"g{i}", size, ()) for i, size in enumerate(SIZES))
POSITIONS = (16, 4, 1)
BATCH = 6


def published(rate, decay, explore, iterations, activations, gradients):
    """REFERENCES 3a: masks, and utilities after each iteration. a, g: [iterations][layer] of [B, H * W, n]."""
    u = [np.zeros(size) for size in SIZES]
    n, history = sum(SIZES), []
    for i in range(iterations):
        if i < explore:
            masks = [np.ones(size, bool) for size in SIZES]
        else:
            threshold = np.sort(np.concatenate(u))[round(n * rate)]
            masks = [own > threshold for own in u]
        for layer in range(len(SIZES)):
            a = activations[i][layer]
            g = gradients[i][layer] * masks[layer]  # of the loss by a, before the mask
            batch, positions, _ = a.shape
            v = np.abs((g * a).sum(1)).sum(0) / (batch * positions)
            v = v / v.max()
            u[layer] = np.where(masks[layer], u[layer] * decay, u[layer]) + v
        history.append((masks, [own.copy() for own in u]))
    return history


@pytest.mark.parametrize("rate", [0.0, 0.42, 0.6])
@pytest.mark.parametrize("decay", [0.6, 0.9])
def test_the_rule_is_the_published_one(rate, decay):
    rng = np.random.default_rng(0)
    iterations, explore = 12, 3
    activations, gradients = (
        [[rng.normal(size=(BATCH, hw, n)) for hw, n in zip(POSITIONS, SIZES, strict=True)] for _ in range(iterations)]
        for _ in range(2)
    )
    expected = published(rate, decay, explore, iterations, activations, gradients)
    state = utility.start(GROUPS)
    place = utility.place(sum(SIZES), rate)
    for i, (masks, utilities) in enumerate(expected):
        on = tuple(jnp.ones(n, bool) for n in SIZES) if i < explore else utility.active(state, place)
        for found, mask in zip(on, masks, strict=True):
            np.testing.assert_array_equal(found, mask)
        slopes = [jnp.asarray((g * a).sum(1)) for g, a in zip(gradients[i], activations[i], strict=True)]
        new = utility.contribution([own.astype(jnp.float32) for own in on], slopes, POSITIONS)
        state = utility.updated(state, on, new, decay)
        for found, own in zip(state, utilities, strict=True):
            np.testing.assert_allclose(found, own, rtol=1e-5)
    removed = sum(int((~mask).sum()) for mask in expected[-1][0])
    assert removed == round(sum(SIZES) * rate) + 1  # the threshold's own channel is not above it


class TwoLayers(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.norm1 = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.conv2 = nnx.Conv(4, 5, (3, 3), strides=2, padding="VALID", rngs=rngs)
        self.norm2 = nnx.BatchNorm(5, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((1, 2)))


def of_torch(torch, params, x, y, masks):
    """What hooks on the batch norms' outputs, before the masks, add up to in torch: v of each layer."""
    layers, hooked = torch.nn.ModuleDict(), []

    def tensor(path):
        layer, name = path.split("/")
        return torch.tensor(np.asarray(params[layer][name]))

    for number, (inputs, outputs, stride, padding) in enumerate([(3, 4, 1, 1), (4, 5, 2, 0)], start=1):
        conv = torch.nn.Conv2d(inputs, outputs, 3, stride, padding)
        conv.weight.data = tensor(f"conv{number}/kernel").permute(3, 2, 0, 1).contiguous()
        conv.bias.data = tensor(f"conv{number}/bias")
        norm = torch.nn.BatchNorm2d(outputs)
        norm.weight.data, norm.bias.data = tensor(f"norm{number}/scale"), tensor(f"norm{number}/bias")
        layers[f"conv{number}"], layers[f"norm{number}"] = conv, norm
    z = torch.tensor(x).permute(0, 3, 1, 2)
    for number, mask in enumerate(masks, start=1):
        a = layers[f"norm{number}"](layers[f"conv{number}"](z))
        a.retain_grad()
        hooked.append(a)
        z = torch.relu(a * torch.tensor(mask.astype(np.float32))[None, :, None, None])
    logits = z.mean((2, 3)) @ tensor("head/kernel") + tensor("head/bias")
    torch.nn.functional.cross_entropy(logits, torch.tensor(y)).backward()
    values = []
    for a in hooked:
        batch, _, height, width = a.shape
        v = (a.grad * a).sum((2, 3)).abs().sum(0) / (batch * height * width)
        values.append((v / v.max()).detach().numpy())
    return values


@pytest.mark.parametrize("off", [(), (0, 2)], ids=["exploring", "masked"])
def test_contributions_are_those_of_torchs_hooks(off):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    net = nets.from_nnx(TwoLayers(nnx.Rngs(0)))
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), net.params)
    x, y = rng.normal(size=(6, 9, 9, 3)).astype(np.float32), rng.integers(0, 3, 6)
    own = (
        Group("conv1", 4, (Slot("conv1/kernel", 3), Slot("norm1/scale", 0), Slot("norm1/bias", 0))),
        Group("conv2", 5, (Slot("conv2/kernel", 3), Slot("norm2/scale", 0), Slot("norm2/bias", 0))),
    )
    gated = gating.gate(net, own, x)
    masks = [np.isin(np.arange(group.size), off, invert=True) for group in own]

    def loss(gates):
        outputs, _ = gated.apply(params, net.state, x, gates, train=True, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.asarray(y)).mean()

    slopes = jax.jit(jax.grad(loss))(tuple(jnp.tile(jnp.float32(mask), (6, 1)) for mask in masks))
    found = utility.contribution(list(map(jnp.float32, masks)), slopes, gated.positions)
    for value, expected, mask in zip(found, of_torch(torch, params, x, y, masks), masks, strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-3, atol=1e-5)
        assert (np.asarray(value)[~mask] == 0).all() and value.max() == 1


def test_a_layer_without_any_slope_adds_nothing():
    (new,) = utility.contribution([jnp.ones(4)], [jnp.zeros((2, 4))], [9])
    np.testing.assert_array_equal(new, 0)


def test_decays_of_imagenet():
    np.testing.assert_allclose(utility.decays(0.6, 3), [0.6, 0.7, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(utility.decays(0.6, 0), [0.6], rtol=1e-6)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 0.97])
def test_a_rate_that_leaves_nothing_is_refused(rate):
    with pytest.raises(BadInput, match="prune rate"):
        utility.place(16, rate)
