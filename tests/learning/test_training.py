"""The loop: masks hold, recovery returns connections and ends at the searched counts, runs repeat bit for bit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_prune import learning, nets
from jax_prune.errors import BadInput
from jax_prune.learning import Recipe, Recovery
from jax_prune.pruning import groups, masks, recovery, scores
from jax_prune.types import Batch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 8)).astype(np.float32)
DATA = Batch(jnp.asarray(X), jnp.asarray((X @ RNG.normal(size=(8, 3))).argmax(1).astype(np.int32)))


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.last = nnx.Linear(32, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


NET = nets.from_nnx(Mlp(nnx.Rngs(0)))
GROUPS = groups.weight_groups(NET.params)
KEPT = jnp.asarray([60, 20])
MASKS = masks.from_kept(NET.params, GROUPS, masks.ranks(scores.magnitude(NET.params, GROUPS)), KEPT)
train = partial(learning.train, loss=learning.cross_entropy, steps=100)


def gathered(tree):
    return [np.asarray(groups.gather(tree, group)) for group in GROUPS]


@pytest.mark.compat
@pytest.mark.parametrize("direction", [optax.scale_by_adam, partial(optax.trace, decay=0.9, nesterov=True)])
def test_frozen_masks_keep_pruned_weights_at_zero(direction):
    recipe = Recipe(direction=direction, learning_rate=1e-2, weight_decay=0.1, batch_size=32)
    trained = train(jax.random.key(0), NET, DATA, recipe, masks=MASKS)
    jax.tree.map(np.testing.assert_array_equal, trained.masks, MASKS)
    for weight, flag, before in zip(gathered(trained.net.params), gathered(MASKS), gathered(NET.params), strict=True):
        assert (weight[~flag] == 0).all()
        assert (weight[flag] != before[flag]).mean() > 0.9


def test_training_learns_carries_statistics_and_leaves_its_input_alone():
    before = jax.tree.map(np.array, NET.params)
    trained = train(jax.random.key(0), NET, DATA, Recipe(learning_rate=1e-2, batch_size=32), steps=300)
    (accuracy,) = learning.evaluate(trained.net, DATA, learning.correct)
    assert accuracy > 0.95 > learning.evaluate(NET, DATA, learning.correct)[0]
    assert trained.losses.shape == (3,) and trained.losses[-1] < trained.losses[0]
    assert not np.allclose(trained.net.state["norm"]["mean"], NET.state["norm"]["mean"])
    jax.tree.map(np.testing.assert_array_equal, NET.params, before)


def test_the_same_key_gives_the_same_bits_and_another_does_not():
    recipe = Recipe(batch_size=32)
    first, again, other = (train(jax.random.key(seed), NET, DATA, recipe).net.params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["first"]["kernel"], other["first"]["kernel"])


def test_steps_round_up_to_whole_chunks():
    assert [learning.chunks_of(steps) for steps in (0, 1, 100, 101)] == [1, 1, 1, 2]


def topk(rate=0.05, until=0.7):
    def choose(params, square):
        return recovery.reselect(params, scores.fisher(params, square, GROUPS), GROUPS, KEPT)

    return Recovery(lambda key, step, params, square, masks: choose(params, square), choose, until, rate)


def hysteresis():
    limits = recovery.thresholds(NET.params, GROUPS, KEPT)

    def update(key, step, params, square, masks):
        return recovery.hysteresis(key, params, masks, GROUPS, limits, jnp.float32(1.0))

    return topk()._replace(update=update)


@pytest.mark.parametrize("kind", [topk, hysteresis])
def test_removed_connections_return_and_the_counts_end_exact(kind):
    recipe = Recipe(learning_rate=1e-2, batch_size=32)
    trained = train(jax.random.key(0), NET, DATA, recipe, masks=MASKS, recovery=kind(), steps=600)
    np.testing.assert_array_equal(masks.kept_counts(trained.masks, GROUPS), KEPT)
    assert recovery.returned(MASKS, trained.masks, GROUPS).sum() >= 1
    for weight, flag in zip(gathered(trained.net.params), gathered(trained.masks), strict=True):
        assert (weight[~flag] == 0).all() and (weight[flag] != 0).all()


def test_without_gradient_steps_nothing_that_was_removed_returns():
    def choose(params, square):
        return recovery.reselect(params, scores.magnitude(params, GROUPS), GROUPS, KEPT)

    still = Recovery(lambda key, step, params, square, masks: choose(params, square), choose, 0.7, 0.0)
    pruned = NET.replace(params=masks.apply(NET.params, MASKS))
    trained = train(jax.random.key(0), pruned, DATA, Recipe(batch_size=32), masks=MASKS, recovery=still, steps=600)
    assert recovery.returned(MASKS, trained.masks, GROUPS).sum() == 0


def test_a_diverging_loss_says_where():
    with pytest.raises(BadInput, match="train: the loss is nan at step 100"):
        train(jax.random.key(0), NET, Batch(DATA.x.at[3].set(jnp.nan), DATA.y), Recipe(batch_size=32))


def test_every_example_is_seen_once_an_epoch():
    seen = []

    def spy(outputs, batch):
        jax.debug.callback(lambda y: seen.extend(np.asarray(y).tolist()), batch.y)
        return outputs[:, 0] * 0.0 + batch.y * 0.0

    numbers = Batch(DATA.x, jnp.arange(300))
    learning.train(jax.random.key(0), NET, numbers, Recipe(batch_size=30), loss=spy, steps=100)
    jax.effects_barrier()
    assert len(seen) == 3000
    assert np.array_equal(np.bincount(seen), np.full(300, 10))


def test_a_teacher_is_asked_about_the_inputs_as_augmented():
    def augment(key, x):
        return x + 100.0

    def imitation(outputs, batch):
        return jnp.abs(batch.y.teacher - batch.x).max(axis=-1)

    echo = NET.replace(params={}, state={}, apply=_Echo())
    trained = learning.train(
        jax.random.key(0), NET, DATA, Recipe(batch_size=32, augment=augment), loss=imitation, steps=100, teacher=echo
    )
    assert trained.losses[0] == 0


class _Echo:
    def __call__(self, params, state, x, *, train, key):
        return x, state

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return isinstance(other, _Echo)
