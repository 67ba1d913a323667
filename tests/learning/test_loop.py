"""The loop against a plain optax one, and the calendar of recovery: when masks may change and when they are final."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_prune import learning, nets
from jax_prune.learning import Recipe, Recovery
from jax_prune.pruning import groups, masks, recovery, scores
from jax_prune.types import Batch

RNG = np.random.default_rng(1)
X = RNG.normal(size=(200, 6)).astype(np.float32)
DATA = Batch(jnp.asarray(X), jnp.asarray((X @ RNG.normal(size=(6, 3))).argmax(1).astype(np.int32)))


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 16, rngs=rngs)
        self.last = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


NET = nets.from_nnx(Mlp(nnx.Rngs(0)))
GROUPS = groups.weight_groups(NET.params)
KEPT = jnp.asarray([40, 20])
MASKS = masks.from_kept(NET.params, GROUPS, masks.ranks(scores.magnitude(NET.params, GROUPS)), KEPT)
PRUNED = NET.replace(params=masks.apply(NET.params, MASKS))
train = partial(learning.train, jax.random.key(0), loss=learning.cross_entropy)


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.compat
def test_whole_batches_give_what_a_users_own_adamw_loop_gives():
    """Where a batch is the whole data set its order does not matter: optax alone must end at the same weights."""
    recipe = Recipe(learning_rate=1e-2, weight_decay=0.1, batch_size=200, warmup=0.05)
    found = train(PRUNED, DATA, recipe, steps=100, masks=MASKS).net.params
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 100)
    # the loop's first step already moves, at the rate of step 1
    adamw = optax.adamw(lambda count: rate(count + 1), weight_decay=0.1)
    optimizer = optax.chain(adamw, masks.keep(MASKS))

    def loss(params):
        outputs, _ = PRUNED.apply(params, PRUNED.state, DATA.x, train=True, key=None)
        return learning.cross_entropy(outputs, DATA).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PRUNED.params, optimizer.init(PRUNED.params)
    for _ in range(100):
        params, state = step(params, state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found, params)
    jax.tree.map(lambda leaf, flag: np.testing.assert_array_equal(leaf[~flag], 0), params, MASKS)
    assert not np.allclose(params["first"]["kernel"], PRUNED.params["first"]["kernel"], atol=1e-2)


class Diary:
    """A recovery that writes down when it is asked, and gives the masks that it was told to give."""

    def __init__(self, until, rate=0.05):
        self.updates, self.freezes, self.latent = [], [], []
        self.recovery = Recovery(self.update, self.freeze, until, rate)

    def update(self, key, step, params, square, current):
        self.updates.append(step)
        self.latent.append(np.asarray(params["first"]["kernel"]))
        return current

    def freeze(self, params, square):
        self.freezes.append(len(self.updates))
        return MASKS


def test_masks_are_final_from_until_on():
    diary = Diary(until=0.6)
    trained = train(PRUNED, DATA, Recipe(batch_size=50), steps=1000, masks=MASKS, recovery=diary.recovery)
    assert diary.updates == [100, 200, 300, 400, 500]
    assert diary.freezes == [5]  # after the sixth chunk, once
    equal(trained.masks, MASKS)


def test_removed_weights_move_only_while_they_may_return():
    diary = Diary(until=0.75)
    train(PRUNED, DATA, Recipe(batch_size=50), steps=400, masks=MASKS, recovery=diary.recovery)
    removed = ~np.asarray(MASKS["first"]["kernel"])
    moved = diary.latent[-1][removed]
    assert (moved != 0).mean() > 0.5
    # a step is at most half the learning rate
    assert np.abs(diary.latent[0][removed]).max() <= 100 * Recipe().learning_rate / 2
    still = Diary(until=0.75, rate=0.0)
    train(PRUNED, DATA, Recipe(batch_size=50), steps=400, masks=MASKS, recovery=still.recovery)
    assert (still.latent[-1][removed] == 0).all()


def fisher(params, square):
    return recovery.reselect(params, scores.fisher(params, square, GROUPS), GROUPS, KEPT)


def by_fisher(until):
    return Recovery(lambda key, step, params, square, current: fisher(params, square), fisher, until, 0.01)


@pytest.mark.parametrize(("steps", "until"), [(100, 0.85), (300, 0.0), (300, 0.3)])
def test_a_run_too_short_for_recovery_keeps_the_masks_it_was_given(steps, until):
    """No gradient has been seen when such a run freezes: to select by it would keep the last entries by index."""
    trained = train(PRUNED, DATA, Recipe(batch_size=50), steps=steps, masks=MASKS, recovery=by_fisher(until))
    equal(trained.masks, MASKS)


@pytest.mark.parametrize("until", [0.9999, 1.0])
def test_counts_are_exact_even_where_recovery_lasts_to_the_end(until):
    limits = recovery.thresholds(PRUNED.params, GROUPS, KEPT)

    def loose(key, step, params, square, current):
        return recovery.hysteresis(key, params, current, GROUPS, limits, jnp.float32(1.0))

    trained = train(
        PRUNED, DATA, Recipe(learning_rate=1e-2, batch_size=50), steps=400, masks=MASKS,
        recovery=Recovery(loose, fisher, until, 0.05),
    )  # fmt: skip
    np.testing.assert_array_equal(masks.kept_counts(trained.masks, GROUPS), KEPT)


def numbers_seen(examples, batch_size):
    """Which examples the 100 steps of a run looked at, int [100, batch]."""
    seen = []

    def spy(outputs, batch):
        jax.debug.callback(lambda y: seen.append(np.asarray(y)), batch.y, ordered=True)
        return outputs[:, 0] * 0.0

    train(NET, Batch(DATA.x[:examples], jnp.arange(examples)), Recipe(batch_size=batch_size), loss=spy, steps=100)
    jax.effects_barrier()
    return np.stack(seen)


def test_an_epoch_with_a_remainder_repeats_no_example_either():
    seen = numbers_seen(110, 50)
    assert seen.shape == (100, 50)
    for epoch in seen.reshape(50, 100):  # two whole batches an epoch; 10 examples sit out, other ones each time
        assert len(set(epoch)) == 100
    assert len({tuple(sorted(set(range(110)) - set(epoch))) for epoch in seen.reshape(50, 100)}) > 40


def test_a_batch_larger_than_the_data_is_the_whole_data():
    seen = numbers_seen(20, 128)
    assert seen.shape == (100, 20)
    assert (np.sort(seen, axis=1) == np.arange(20)).all()
