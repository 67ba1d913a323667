"""A committee answers with the mean of its members and is a Net like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import nets
from jax_prune.errors import BadInput


class Norm(nnx.Module):
    def __init__(self, rngs, width=4):
        self.first = nnx.Linear(3, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.first(x))


X = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)


def members(count):
    return [nets.from_nnx(Norm(nnx.Rngs(seed))) for seed in range(count)]


def test_the_outputs_are_the_members_mean_in_both_modes():
    some = members(3)
    together = nets.committee(some)
    np.testing.assert_allclose(together(X), np.mean([net(X) for net in some], axis=0), rtol=1e-5, atol=1e-6)
    outputs, state = together.apply(together.params, together.state, X, train=True, key=None)
    alone = [net.apply(net.params, net.state, X, train=True, key=None) for net in some]
    np.testing.assert_allclose(outputs, np.mean([out for out, _ in alone], axis=0), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, list(state.values()), [new for _, new in alone])


def test_committees_of_equal_architecture_share_compiled_programs():
    assert nets.committee(members(2)).apply == nets.committee(members(2)[::-1]).apply


def test_rebuild_gives_the_members_own_modules():
    some = members(2)
    together = nets.committee(some)
    first, second = together.rebuild(together.params, together.state)
    np.testing.assert_array_equal(first.first.kernel[...], some[0].params["first"]["kernel"])
    np.testing.assert_array_equal(second.first.kernel[...], some[1].params["first"]["kernel"])


def test_no_members_and_unlike_members_are_refused():
    with pytest.raises(BadInput, match="at least one"):
        nets.committee([])
    with pytest.raises(BadInput, match="one architecture"):
        nets.committee([nets.from_nnx(Norm(nnx.Rngs(0))), nets.from_nnx(Norm(nnx.Rngs(0), width=5))])
