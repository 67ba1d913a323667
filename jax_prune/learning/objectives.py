"""Per-example losses and metrics, and what transforms them.

A loss is ``loss(outputs, batch) -> [B]``, lower is better; a metric likewise, higher is better.
Both are static functions of the compiled programs: give module-level functions or frozen dataclasses,
not fresh lambdas, and nothing compiles twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax_prune.types import Array, Batch

ExampleFunction = Callable[[Any, Batch], Array]


def cross_entropy(outputs: Array, batch: Batch) -> Array:
    """Cross entropy [B] of logits [B, C] against integer labels ``batch.y`` [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch.y)


def correct(outputs: Array, batch: Batch) -> Array:
    """1.0 where the largest logit is the label's, else 0.0: float32 [B]. Non-finite logits are wrong."""
    right = jnp.argmax(outputs, axis=-1) == batch.y
    return (right & jnp.isfinite(outputs).all(-1)).astype(jnp.float32)


class Taught(NamedTuple):
    """Targets with a teacher's outputs beside them; both have leading axis B."""

    y: Any
    teacher: Array


def with_teacher(batch: Batch, outputs: Array) -> Batch:
    """The same examples whose targets carry the teacher's logits [B, C]."""
    return Batch(batch.x, Taught(batch.y, outputs))


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Mixes a loss with the divergence from a teacher (Hinton et al. 2015, section 2).

    ``(1 - weight) * loss + weight * temperature**2 * KL(teacher || student)``, both softened by
    ``temperature``. Batches come from ``with_teacher``.
    """

    loss: ExampleFunction
    weight: float = 0.5
    temperature: float = 2.0

    def __call__(self, outputs: Array, batch: Batch) -> Array:
        student = jax.nn.log_softmax(outputs / self.temperature)
        teacher = jax.nn.softmax(batch.y.teacher / self.temperature)
        divergence = optax.losses.kl_divergence(student, teacher)
        hard = self.loss(outputs, Batch(batch.x, batch.y.y))
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * divergence
