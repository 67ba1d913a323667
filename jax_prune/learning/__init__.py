"""Training: one loop, optax underneath; objectives are transforms of a per-example loss."""

from jax_prune.learning.augmentation import CROP_AND_FLIP, Augmentation, InTurn, RandomFlip, RandomShift, Variants
from jax_prune.learning.evaluation import evaluate, outputs_of
from jax_prune.learning.gates import Gating, ScoreGates, UtilityGates, by_score, by_utility
from jax_prune.learning.gradients import Moments, mean_over_batches, moments
from jax_prune.learning.handling import Handling
from jax_prune.learning.loop import Recovery, Trained, train
from jax_prune.learning.objectives import (
    Distillation,
    ExampleFunction,
    Taught,
    correct,
    cross_entropy,
    with_teacher,
)
from jax_prune.learning.seeds import train_seeds
from jax_prune.learning.steps import CHUNK, Recipe, chunks_of
from jax_prune.learning.teaching import answers, check_answers, teacher_of

__all__ = [
    "CHUNK",
    "CROP_AND_FLIP",
    "Augmentation",
    "Distillation",
    "ExampleFunction",
    "Gating",
    "Handling",
    "InTurn",
    "Moments",
    "RandomFlip",
    "RandomShift",
    "Recipe",
    "Recovery",
    "ScoreGates",
    "Taught",
    "Trained",
    "UtilityGates",
    "Variants",
    "answers",
    "by_score",
    "by_utility",
    "check_answers",
    "chunks_of",
    "correct",
    "cross_entropy",
    "evaluate",
    "mean_over_batches",
    "moments",
    "outputs_of",
    "teacher_of",
    "train",
    "train_seeds",
    "with_teacher",
]
