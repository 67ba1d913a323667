"""Random changes of a training batch, made on the device inside the compiled step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jax_prune.types import Array


@dataclasses.dataclass(frozen=True)
class RandomShift:
    """Moves a ``share`` of the images [B, H, W, C] by up to ``pixels`` along each axis, filling with zeros."""

    pixels: int = 1
    share: float = 0.5

    def __call__(self, key: Array, x: Array) -> Array:
        choose, draw = jax.random.split(key)
        moves = jax.random.randint(draw, (2, x.shape[0]), -self.pixels, self.pixels + 1)
        moves = jnp.where(jax.random.bernoulli(choose, self.share, (x.shape[0],)), moves, 0)
        return self._moved(self._moved(x, moves[0], 1), moves[1], 2)

    def _moved(self, x: Array, moves: Array, axis: int) -> Array:
        """Selects among the few shifted copies: on CPU far faster than a gather an image."""
        result = x
        for move in range(-self.pixels, self.pixels + 1):
            if move:
                here = (moves == move).reshape(-1, 1, 1, 1)
                result = jnp.where(here, _shifted(x, move, axis), result)
        return result


def _shifted(x: Array, move: int, axis: int) -> Array:
    length = x.shape[axis]
    kept = jax.lax.slice_in_dim(x, max(-move, 0), length - max(move, 0), axis=axis)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (max(move, 0), max(-move, 0))
    return jnp.pad(kept, padding)
