"""Windows of sensor signals as other wearers, or another day, might have given them: noise, gain, a turned strap."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.types import Array

AXES = 3  # of a sensor


@dataclasses.dataclass(frozen=True)
class Handling:
    """Random changes of windows [B, T, C] (after Um et al. 2017, arXiv 1706.00527: jitter, scaling, rotation).

    ``turn``: deviation, in radians, of the angle about a random axis by which every window's sensors are rotated, all
    alike, channels in threes being one sensor's axes. ``stretch``: deviation of a factor on each channel of a window.
    ``noise``: deviation of what is then added to every sample, in units of the windows given. These may be
    standardised by ``mean`` and ``deviation``, C each: they are turned and stretched as they were before, with gravity.
    """

    noise: float = 0.0
    stretch: float = 0.0
    turn: float = 0.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return bool(self.noise or self.stretch or self.turn)

    def __call__(self, key: Array, x: Array) -> Array:
        """The windows changed, each in its own way. Raises BadInput for channels that do not come in threes."""
        noise, stretch, turn = jax.random.split(key, 3)
        x = x * jnp.asarray(self.deviation) + jnp.asarray(self.mean) if self.mean else x
        if self.turn:
            x = _turned(x, rotations(turn, x.shape[0], self.turn))
        if self.stretch:
            x = x * (1 + self.stretch * jax.random.normal(stretch, (x.shape[0], 1, x.shape[2])))
        x = (x - jnp.asarray(self.mean)) / jnp.asarray(self.deviation) if self.mean else x
        return x + self.noise * jax.random.normal(noise, x.shape) if self.noise else x


def rotations(key: Array, count: int, spread: float) -> Array:
    """Rotation matrices [count, 3, 3] about random axes, by normal angles of deviation ``spread`` (Rodrigues)."""
    along, by = jax.random.split(key)
    axis = jax.random.normal(along, (count, AXES))
    x, y, z = (axis / jnp.linalg.norm(axis, axis=1, keepdims=True)).T
    angle = spread * jax.random.normal(by, (count, 1, 1))
    none = jnp.zeros_like(x)
    cross = jnp.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(count, AXES, AXES)
    return jnp.eye(AXES) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * cross @ cross


def _turned(x: Array, rotation: Array) -> Array:
    batch, length, channels = x.shape
    if channels % AXES:
        raise BadInput(f"windows of {channels} channels cannot be turned: channels come in threes, or turn is 0")
    sensors = x.reshape(batch, length, channels // AXES, AXES)
    return jnp.einsum("btsa,bca->btsc", sensors, rotation).reshape(x.shape)
