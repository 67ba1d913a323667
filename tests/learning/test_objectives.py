"""Losses, metrics, gradients and augmentation against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jax_prune import learning, nets
from jax_prune.errors import BadInput
from jax_prune.types import Batch

RNG = np.random.default_rng(0)
LOGITS, TEACHER = RNG.normal(size=(2, 20, 5)).astype(np.float32) * 3
LABELS = RNG.integers(0, 5, 20)
BATCH = Batch(np.zeros((20, 1)), jnp.asarray(LABELS))


@pytest.mark.compat
def test_cross_entropy_and_accuracy():
    expected = -log_softmax(LOGITS, axis=1)[np.arange(20), LABELS]
    np.testing.assert_allclose(learning.cross_entropy(LOGITS, BATCH), expected, rtol=1e-5)
    np.testing.assert_array_equal(learning.correct(LOGITS, BATCH), LOGITS.argmax(1) == LABELS)


def test_logits_that_are_not_finite_are_wrong():
    broken = np.full((2, 3), np.nan, np.float32)
    assert not learning.correct(broken, Batch(None, jnp.asarray([0, 0]))).any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_is_hintons_formula(weight):
    taught = learning.with_teacher(BATCH, TEACHER)
    found = learning.Distillation(learning.cross_entropy, weight, 3.0)(LOGITS, taught)
    p, log_q = softmax(TEACHER / 3, axis=1), log_softmax(LOGITS / 3, axis=1)
    divergence = (p * (np.log(p) - log_q)).sum(1)
    hard = -log_softmax(LOGITS, axis=1)[np.arange(20), LABELS]
    np.testing.assert_allclose(found, (1 - weight) * hard + weight * 9 * divergence, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 999, 1000, 2500])
def test_evaluate_is_the_plain_mean(length):
    net = nets.build("lenet300")
    images = RNG.integers(0, 256, (length, 28, 28, 1)).astype(np.uint8)
    labels = RNG.integers(0, 10, length).astype(np.int32)
    outputs = np.asarray(net(images))
    loss, accuracy = learning.evaluate(net, Batch(images, labels), learning.cross_entropy, learning.correct)
    np.testing.assert_allclose(loss, -log_softmax(outputs, axis=1)[np.arange(length), labels].mean(), rtol=1e-4)
    np.testing.assert_allclose(accuracy, (outputs.argmax(1) == labels).mean(), rtol=1e-6)
    np.testing.assert_allclose(learning.outputs_of(net, Batch(images, labels)), outputs, rtol=1e-4, atol=1e-4)


def test_gradient_moments_are_those_of_a_plain_loop():
    net = nets.build("lenet300")
    data = Batch(jnp.asarray(RNG.random((40, 28, 28, 1)), jnp.float32), jnp.asarray(RNG.integers(0, 10, 40)))
    key = jax.random.key(3)
    found = learning.moments(key, net, data, learning.cross_entropy, batches=3, size=16)
    indices = jax.random.randint(key, (3, 16), 0, 40)

    def mean_loss(params, index):
        batch = Batch(data.x[index], data.y[index])
        return learning.cross_entropy(net.apply(params, net.state, batch.x, train=False, key=None)[0], batch).mean()

    slopes = [jax.grad(mean_loss)(net.params, index) for index in indices]
    mean = jax.tree.map(lambda *parts: sum(parts) / 3, *slopes)
    square = jax.tree.map(lambda *parts: sum(part**2 for part in parts) / 3, *slopes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found.mean, mean)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-8), found.square, square)


@pytest.mark.parametrize("pixels", [1, 2])
def test_shifts_move_whole_images_and_fill_with_zeros(pixels):
    images = RNG.integers(1, 256, (60, 9, 8, 2)).astype(np.uint8)
    moved = np.asarray(learning.RandomShift(pixels, share=1.0)(jax.random.key(0), jnp.asarray(images)))
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    seen = set()
    for image, pad in zip(moved, padded, strict=True):
        fits = [
            (i, j)
            for i in range(2 * pixels + 1)
            for j in range(2 * pixels + 1)
            if np.array_equal(image, pad[i : i + 9, j : j + 8])
        ]
        assert len(fits) == 1
        seen |= set(fits)
    assert len(seen) >= 2 * pixels + 2


def test_a_share_of_images_stays_as_it_is():
    images = jnp.asarray(RNG.integers(1, 256, (400, 5, 5, 1)).astype(np.uint8))
    none = learning.RandomShift(1, share=0.0)(jax.random.key(0), images)
    np.testing.assert_array_equal(none, images)
    half = learning.RandomShift(1, share=0.5)(jax.random.key(0), images)
    still = (np.asarray(half) == np.asarray(images)).all((1, 2, 3)).mean()
    assert 0.5 < still < 0.62  # half, and a ninth of the other half


def test_flips_mirror_about_their_share_and_nothing_else():
    images = jnp.asarray(RNG.integers(0, 256, (400, 5, 6, 3)).astype(np.uint8))
    flipped = np.asarray(learning.RandomFlip(0.3)(jax.random.key(0), images))
    turned = (flipped == np.asarray(images)[:, :, ::-1]).all((1, 2, 3))
    still = (flipped == np.asarray(images)).all((1, 2, 3))
    assert (turned ^ still).all() and 0.2 < turned.mean() < 0.4 and flipped.dtype == np.uint8
    with pytest.raises(BadInput, match="flips mirror images"):
        learning.RandomFlip()(jax.random.key(0), jnp.zeros((4, 10)))


def test_crop_and_flip_is_a_window_of_the_padded_image_or_its_mirror():
    images = RNG.integers(1, 256, (50, 32, 32, 3)).astype(np.uint8)
    changed = np.asarray(learning.CROP_AND_FLIP(jax.random.key(1), jnp.asarray(images)))
    padded, found = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0))), []
    for image, pad in zip(changed, padded, strict=True):
        windows = [(i, j, mirrored) for i in range(9) for j in range(9) for mirrored in (1, -1)
                   if np.array_equal(image, pad[i : i + 32, j : j + 32][:, ::mirrored])]  # fmt: skip
        assert len(windows) == 1
        found += windows
    assert len({window[:2] for window in found}) > 30 and 10 < sum(mirror < 0 for *_, mirror in found) < 40


def test_augmentations_in_turn_are_hashable_and_draw_apart():
    one = learning.InTurn((learning.RandomShift(4, share=1.0), learning.RandomFlip()))
    assert one == learning.CROP_AND_FLIP and hash(one) == hash(learning.CROP_AND_FLIP)
    twice = learning.InTurn((learning.RandomFlip(), learning.RandomFlip()))
    images = jnp.asarray(RNG.normal(size=(200, 3, 4, 1)).astype(np.float32))
    moved = (np.asarray(twice(jax.random.key(0), images)) != np.asarray(images)).any((1, 2, 3))
    assert 0.3 < moved.mean() < 0.7


def test_means_over_batches_square_each_ones_own_sum():
    net = nets.build("lenet300")
    images = jnp.asarray(RNG.normal(size=(40, 28, 28, 1)).astype(np.float32))
    data, key = Batch(images, jnp.asarray(RNG.integers(0, 10, 40))), jax.random.key(3)
    found = learning.mean_over_batches(key, net, data, learning.cross_entropy, squared_sums, batches=3, size=16)
    expected = []
    for index in jax.random.randint(key, (3, 16), 0, 40):
        gradient = jax.grad(
            lambda p, i=index: learning.cross_entropy(
                net.apply(p, {}, data.x[i], train=False, key=None)[0], Batch(None, data.y[i])
            ).mean()
        )(net.params)
        expected.append(squared_sums(net.params, gradient))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)
    mean = learning.moments(key, net, data, learning.cross_entropy, batches=3, size=16).mean
    assert not np.allclose(found, squared_sums(net.params, mean), rtol=1e-2)


def squared_sums(params, gradient):
    return (params["ip3"]["kernel"] * gradient["ip3"]["kernel"]).sum(0) ** 2
