"""Random changes of a training batch, made on the device inside the compiled step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.types import Array

Augmentation = Callable[[Array, Any], Any]


@runtime_checkable
class Variants(Protocol):
    """An augmentation of few variants: what a teacher says of each can be asked once and kept.

    ``augment(key, x)`` is ``augment.variant(x, augment.draw(key, B))``; variants [B] count from 0 to ``count``.
    ``neighbours`` bool [V, V], symmetric with a false diagonal, says which variants differ least.
    """

    @property
    def count(self) -> int: ...

    def draw(self, key: Array, examples: int) -> Array: ...

    def variant(self, x: Any, variants: Array) -> Any: ...

    def neighbours(self) -> np.ndarray: ...

    def __call__(self, key: Array, x: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class RandomShift:
    """Moves images [B, H, W, C] by up to ``pixels`` along each axis, filling with zeros.

    A ``share`` of them draws one of all (2 pixels + 1)**2 shifts, the one that leaves them in place among these.
    """

    pixels: int = 1
    share: float = 0.5

    @property
    def count(self) -> int:
        return (2 * self.pixels + 1) ** 2

    def draw(self, key: Array, examples: int) -> Array:
        """Which shift each image gets: int32 [B], down times ``2 pixels + 1`` plus right, both from 0."""
        choose, draw = jax.random.split(key)
        moves = jax.random.randint(draw, (2, examples), -self.pixels, self.pixels + 1)
        moves = jnp.where(jax.random.bernoulli(choose, self.share, (examples,)), moves, 0) + self.pixels
        return moves[0] * (2 * self.pixels + 1) + moves[1]

    def variant(self, x: Array, variants: Array) -> Array:
        """Images [B, H, W, C] shifted each as ``variants`` [B] says."""
        if x.ndim != 4:
            raise BadInput(f"shifts move images [B, H, W, C], not inputs of shape {list(x.shape)}: shift by 0 pixels")
        if self.pixels >= min(x.shape[1:3]):
            raise BadInput(f"shifts of {self.pixels} pixels move images of {x.shape[1]}x{x.shape[2]} out of sight")
        framed = jnp.pad(x, ((0, 0), (self.pixels, self.pixels), (self.pixels, self.pixels), (0, 0)))
        down, right = jnp.divmod(variants, 2 * self.pixels + 1)

        def window(image: Array, down: Array, right: Array) -> Array:
            return jax.lax.dynamic_slice(image, (2 * self.pixels - down, 2 * self.pixels - right, 0), x.shape[1:])

        return jax.vmap(window)(framed, down, right)

    def neighbours(self) -> np.ndarray:
        """Shifts that differ by at most a pixel along each axis: bool [V, V]."""
        places = np.stack(np.divmod(np.arange(self.count), 2 * self.pixels + 1), axis=1)
        return np.abs(places[:, None] - places).max(-1) == 1

    def __call__(self, key: Array, x: Array) -> Array:
        return self.variant(x, self.draw(key, x.shape[0]))


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors a ``share`` of images [B, H, W, C], left for right."""

    share: float = 0.5

    def __call__(self, key: Array, x: Array) -> Array:
        if x.ndim != 4:
            raise BadInput(f"flips mirror images [B, H, W, C], not inputs of shape {list(x.shape)}: leave them out")
        flipped = jax.random.bernoulli(key, self.share, (x.shape[0], 1, 1, 1))
        return jnp.where(flipped, x[:, :, ::-1], x)


@dataclasses.dataclass(frozen=True)
class InTurn:
    """One augmentation after the other, each with a key of its own."""

    parts: tuple[Augmentation, ...]

    def __call__(self, key: Array, x: Any) -> Any:
        for number, part in enumerate(self.parts):
            x = part(jax.random.fold_in(key, number), x)
        return x


CROP_AND_FLIP = InTurn((RandomShift(4, share=1.0), RandomFlip()))  # CIFAR's: padded by 4, cropped, mirrored at random
