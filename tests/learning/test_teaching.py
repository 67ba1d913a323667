"""A teacher asked once says what it would say at every step, and training does not notice the difference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_prune import learning, nets
from jax_prune.errors import BadInput
from jax_prune.learning import Distillation, RandomShift, Recipe, teaching
from jax_prune.types import Batch, Net

RNG = np.random.default_rng(7)
X = RNG.normal(size=(200, 6, 5, 1)).astype(np.float32)
DATA = Batch(jnp.asarray(X), jnp.asarray(RNG.integers(0, 3, 200)))


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(30, 8, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x.reshape(x.shape[0], -1))))


TEACHER, STUDENT = nets.from_nnx(Mlp(nnx.Rngs(0))), nets.from_nnx(Mlp(nnx.Rngs(1)))
LOSS = Distillation(learning.cross_entropy, 1.0, 2.0)


def test_answers_are_the_teachers_outputs_for_every_variant():
    shift = RandomShift(1)
    answers = learning.answers(TEACHER, DATA, shift)
    assert answers.shape == (9, 200, 3)
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for number in range(9):
        down, right = number // 3, number % 3
        shifted = padded[:, 2 - down : 8 - down, 2 - right : 7 - right]
        np.testing.assert_allclose(answers[number], TEACHER(jnp.asarray(shifted)), rtol=1e-5, atol=1e-6)


def test_neighbouring_variants_are_averaged_with_their_weight():
    plain, averaged = (np.asarray(learning.answers(TEACHER, DATA, RandomShift(1), w)) for w in (0.0, 0.25))
    grid = plain.reshape(3, 3, 200, 3)
    for down, right in np.ndindex(3, 3):
        around = grid[max(down - 1, 0) : down + 2, max(right - 1, 0) : right + 2].reshape(-1, 200, 3)
        expected = (0.75 * grid[down, right] + 0.25 * around.sum(0)) / (0.75 + 0.25 * len(around))
        np.testing.assert_allclose(averaged[3 * down + right], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 2])
def test_neighbours_are_one_pixel_away(pixels):
    neighbours = RandomShift(pixels).neighbours()
    assert (neighbours == neighbours.T).all() and not neighbours.diagonal().any()
    assert sorted(set(neighbours.sum(1))) == ([3, 5, 8])
    assert neighbours[neighbours.shape[0] // 2].sum() == 8


def test_averaged_answers_are_kept_or_refused(monkeypatch):
    few = 9 * 200 - 1
    assert learning.teacher_of(TEACHER, DATA, RandomShift(1), few, 0.3).shape == (9, 200, 3)
    monkeypatch.setattr(teaching, "MEMORY", 9 * 200 * 3 * 4 - 1)
    with pytest.raises(BadInput, match="neighbour_weight"):
        learning.teacher_of(TEACHER, DATA, RandomShift(1), 10**9, 0.3)


@pytest.mark.parametrize("augment", [None, RandomShift(1)])
def test_training_is_the_same_with_a_net_and_with_its_answers(augment):
    def train(teacher):
        recipe = Recipe(batch_size=32, augment=augment)
        return learning.train(jax.random.key(0), STUDENT, DATA, recipe, loss=LOSS, steps=200, teacher=teacher)

    asked, kept = train(TEACHER), train(learning.answers(TEACHER, DATA, augment))
    np.testing.assert_allclose(asked.losses, kept.losses, rtol=1e-3, atol=1e-4)


def test_the_cheaper_way_is_taken(monkeypatch):
    few, many = 9 * 200 - 1, 9 * 200
    assert isinstance(learning.teacher_of(TEACHER, DATA, RandomShift(1), few), Net)
    assert learning.teacher_of(TEACHER, DATA, RandomShift(1), many).shape == (9, 200, 3)
    assert learning.teacher_of(TEACHER, DATA, None, many).shape == (1, 200, 3)
    assert isinstance(learning.teacher_of(TEACHER, DATA, lambda key, x: x, many), Net)
    monkeypatch.setattr(teaching, "MEMORY", 9 * 200 * 3 * 4 - 1)
    assert isinstance(learning.teacher_of(TEACHER, DATA, RandomShift(1), many), Net)


def test_a_shift_is_its_drawn_variant():
    shift, key = RandomShift(2), jax.random.key(3)
    variants = shift.draw(key, 200)
    assert variants.min() >= 0 and variants.max() < shift.count == 25
    np.testing.assert_array_equal(shift(key, DATA.x), shift.variant(DATA.x, variants))
