"""Dynamic Channel Propagation's rule against NumPy, line by line, and against torch's own hooks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune.errors import BadInput
from jax_prune.pruning import utility
from jax_prune.types import Group

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
