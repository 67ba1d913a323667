"""Training: one loop, optax underneath; objectives are transforms of a per-example loss."""

from jax_prune.learning.augmentation import RandomShift
from jax_prune.learning.evaluation import evaluate, outputs_of
from jax_prune.learning.gradients import Moments, moments
from jax_prune.learning.loop import CHUNK, Recipe, Recovery, Trained, chunks_of, train
from jax_prune.learning.objectives import (
    Distillation,
    ExampleFunction,
    Taught,
    correct,
    cross_entropy,
    with_teacher,
)

__all__ = [
    "CHUNK",
    "Distillation",
    "ExampleFunction",
    "Moments",
    "RandomShift",
    "Recipe",
    "Recovery",
    "Taught",
    "Trained",
    "chunks_of",
    "correct",
    "cross_entropy",
    "evaluate",
    "moments",
    "outputs_of",
    "train",
    "with_teacher",
]
