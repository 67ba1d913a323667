"""What the tuning of a round learns from: data, loss, and a teacher where the loss distils."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax

from jax_prune import learning
from jax_prune.errors import BadInput
from jax_prune.learning import ExampleFunction
from jax_prune.plan import NOT_TAUGHT, Plan, tuning_steps
from jax_prune.types import Array, Batch, Net

DISTILLATION = 0.95  # default weight of the trained net's softened logits


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What tuning learns from: data and loss, the net that teaches where the loss distils, validation."""

    data: Batch
    loss: ExampleFunction
    plain_loss: ExampleFunction
    teaching: Net | None
    validation: Batch
    metric: ExampleFunction
    augment: learning.Augmentation | None
    questions: int  # examples of all tuning
    neighbour_weight: float

    @classmethod
    def of(
        cls,
        teaching: Net,
        train: Batch,
        validation: Batch,
        plan: Plan,
        loss: ExampleFunction,
        metric: ExampleFunction,
    ) -> Lesson:
        train, validation = jax.device_put(train), jax.device_put(validation)
        weight = plan.distillation
        if weight is None:
            weight = DISTILLATION if loss is learning.cross_entropy else 0.0
        if plan.neighbour_weight and not weight:
            raise BadInput(NOT_TAUGHT)
        questions = tuning_steps(plan) * plan.recipe.batch_size
        rest = (validation, metric, plan.recipe.augment, questions, plan.neighbour_weight)
        if not weight:
            return cls(train, loss, loss, None, *rest)
        learning.check_answers(teaching, train, plan.recipe.augment, plan.neighbour_weight)  # before the first round
        return cls(train, learning.Distillation(loss, weight, plan.temperature), loss, teaching, *rest)

    @cached_property
    def teacher(self) -> Net | Array | None:
        """The teacher as training wants it; its answers are collected when the first round asks for them."""
        if self.teaching is None:
            return None
        return learning.teacher_of(self.teaching, self.data, self.augment, self.questions, self.neighbour_weight)
