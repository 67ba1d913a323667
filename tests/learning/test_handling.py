"""Changes of windows: rotations are rotations, gains and noise have the spread that was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jax_prune import learning
from jax_prune.errors import BadInput
from jax_prune.learning import Handling, handling

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (400, 20, 6))


def test_rotations_are_scipys_for_the_same_axes_and_angles():
    along, by = jax.random.split(KEY)
    axes = np.asarray(jax.random.normal(along, (400, 3)), np.float64)
    angles = 0.3 * np.asarray(jax.random.normal(by, (400,)), np.float64)
    expected = Rotation.from_rotvec(axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles[:, None]).as_matrix()
    np.testing.assert_allclose(handling.rotations(KEY, 400, 0.3), expected, atol=1e-5)


def test_a_turn_keeps_lengths_and_turns_both_sensors_alike():
    turned = Handling(turn=0.5)(KEY, X)
    lengths = [np.linalg.norm(windows.reshape(400, 20, 2, 3), axis=-1) for windows in (turned, X)]
    np.testing.assert_allclose(*lengths, atol=1e-5)
    products = [(own[..., :3] * own[..., 3:]).sum(-1) for own in (turned, X)]  # angles between the sensors
    np.testing.assert_allclose(*products, atol=1e-4)
    assert not np.allclose(turned, X, atol=0.1)


def test_stretch_is_one_factor_a_channel_of_a_window():
    factors = np.asarray(Handling(stretch=0.2)(KEY, X) / X)
    np.testing.assert_allclose(factors, factors[:, :1].repeat(20, 1), rtol=1e-4)
    assert factors[:, 0].std() == pytest.approx(0.2, rel=0.05) and factors.mean() == pytest.approx(1, abs=0.02)


def test_noise_has_its_deviation():
    difference = np.asarray(Handling(noise=0.1)(KEY, X) - X)
    assert difference.std() == pytest.approx(0.1, rel=0.02) and abs(difference.mean()) < 2e-3


def test_nothing_asked_changes_nothing():
    assert not Handling().changes
    np.testing.assert_array_equal(Handling()(KEY, X), X)


def test_standardised_windows_are_turned_and_stretched_as_they_were_before():
    mean, deviation = (0.5, -1.0, 2.0, 0.1, 0.2, 0.3), (1.0, 0.5, 0.6, 1.1, 2.6, 1.1)
    standard = (X - jnp.asarray(mean)) / jnp.asarray(deviation)
    found = Handling(stretch=0.1, turn=0.4, mean=mean, deviation=deviation)(KEY, standard)
    expected = (Handling(stretch=0.1, turn=0.4)(KEY, X) - jnp.asarray(mean)) / jnp.asarray(deviation)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_channels_that_are_no_axes_cannot_be_turned():
    with pytest.raises(BadInput, match="4 channels cannot be turned"):
        learning.Handling(turn=0.1)(KEY, jnp.zeros((2, 5, 4)))
