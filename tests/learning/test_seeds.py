"""Seeds trained together are the same seeds trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import learning, nets
from jax_prune.errors import BadInput
from jax_prune.learning import Recipe, seeds
from jax_prune.types import Batch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 6)).astype(np.float32)
DATA = Batch(jnp.asarray(X), jnp.asarray((X @ RNG.normal(size=(6, 3))).argmax(1).astype(np.int32)))


class Mlp(nnx.Module):
    def __init__(self, width, rngs):
        self.first = nnx.Linear(6, width, use_bias=False, rngs=rngs)  # before a norm: without slope
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def built(seed, width=8):
    return nets.from_nnx(Mlp(width, nnx.Rngs(seed)))


KEYS = [jax.random.key(seed) for seed in (3, 4, 5)]
RECIPE = Recipe(learning_rate=1e-2, weight_decay=0.1, batch_size=16)


@pytest.mark.parametrize("lift", ["cpu", "gpu"])
def test_every_seed_ends_where_it_ends_alone(monkeypatch, lift):
    """Dropout, batch statistics, the order of examples and the weights are each seed's own, mapped or vmapped."""
    monkeypatch.setattr(jax, "default_backend", lambda: lift)
    jax.clear_caches()
    found = learning.train_seeds(KEYS, [built(seed) for seed in range(3)], DATA, RECIPE,
                                 loss=learning.cross_entropy, steps=200)  # fmt: skip
    for seed, (key, own) in enumerate(zip(KEYS, found, strict=True)):
        alone = learning.train(key, built(seed), DATA, RECIPE, loss=learning.cross_entropy, steps=200)
        np.testing.assert_allclose(own.losses, alone.losses, rtol=1e-3)
        for name in ("params", "state"):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3),
                         getattr(own.net, name), getattr(alone.net, name))  # fmt: skip
    assert not np.allclose(found[0].net.params["first"]["kernel"], found[1].net.params["first"]["kernel"], atol=0.1)


def test_new_seeds_and_data_compile_nothing():
    jax.clear_caches()
    for seed in (0, 7):
        data = jax.tree.map(lambda leaf, s=seed: jnp.roll(leaf, s, axis=0), DATA)
        keys = [jax.random.key(seed + number) for number in range(2)]
        learning.train_seeds(keys, [built(seed), built(seed + 1)], data, RECIPE, loss=learning.cross_entropy, steps=100)
    assert seeds._advance._cache_size() == 1


def test_what_does_not_go_together_is_refused():
    with pytest.raises(BadInput, match="2 keys and 3 nets"):
        learning.train_seeds(KEYS[:2], [built(s) for s in range(3)], DATA, RECIPE, loss=learning.cross_entropy, steps=1)
    with pytest.raises(BadInput, match="nets of one architecture"):
        learning.train_seeds(KEYS[:2], [built(0), nets.build("lenet300")], DATA, RECIPE, loss=learning.cross_entropy,
                             steps=1)  # fmt: skip
    with pytest.raises(BadInput, match="boiler: the losses are .* at step 100; lower the learning rate"):
        fast = Recipe(direction=lambda: __import__("optax").identity(), learning_rate=1e30, batch_size=16)
        learning.train_seeds(KEYS[:1], [built(0)], DATA, fast, loss=learning.cross_entropy, steps=100, title="boiler")
