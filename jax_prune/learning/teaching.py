"""What a teacher says of the training data: asked once where there is little to ask, else at every step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.learning.augmentation import Augmentation, Variants
from jax_prune.learning.evaluation import outputs_of
from jax_prune.types import Array, Batch, Net

MEMORY = 2**30  # bytes that kept answers may take


def teacher_of(
    net: Net, data: Batch, augment: Augmentation | None, questions: int, neighbour_weight: float = 0.0
) -> Net | Array:
    """What ``train`` is to be given as teacher: ``net``, or its answers [V, B, ...] where asking once is cheaper.

    ``questions`` is how many examples training will ask about in all. Without augmentation V is 1; an
    augmentation of few ``Variants`` has its count; any other, or answers beyond MEMORY, leave the net itself.
    With a ``neighbour_weight`` (see ``answers``), which only variants have, answers are kept whatever they cost;
    raises BadInput where they are beyond MEMORY.
    """
    if augment is not None and not isinstance(augment, Variants):
        return net
    check_answers(net, data, augment, neighbour_weight)
    asked = _asked(data, augment)
    if asked * _answer_bytes(net, data) > MEMORY or (asked > questions and not neighbour_weight):
        return net
    return answers(net, data, augment, neighbour_weight)


def check_answers(net: Net, data: Batch, augment: Augmentation | None, neighbour_weight: float) -> None:
    """Raises BadInput where a ``neighbour_weight`` asks for more answers than MEMORY holds; computes nothing."""
    if not neighbour_weight or not isinstance(augment, Variants):
        return
    size = _asked(data, augment) * _answer_bytes(net, data)
    if size > MEMORY:
        raise BadInput(
            f"neighbour_weight={neighbour_weight} keeps answers to {augment.count} shifts of every image, "
            f"{size >> 20} MiB of at most {MEMORY >> 20}: ask for smaller shifts, or set it to 0"
        )


def answers(net: Net, data: Batch, augment: Variants | None, neighbour_weight: float = 0.0) -> Array:
    """Outputs [V, B, ...] of ``net`` for every example of ``data`` under every variant of ``augment``.

    With a ``neighbour_weight`` an answer is the weighted mean of what the net says of the variant (1) and of each
    of its neighbours: averaged over transformations the answers are better, as in data distillation
    (Radosavovic et al. 2018, section 3).
    """
    if augment is None:
        return outputs_of(net, data)[None]
    examples = jax.tree.leaves(data.x)[0].shape[0]
    outputs = []
    with progress.bar("teacher's answers", augment.count) as advance:
        for number in range(augment.count):
            x = augment.variant(data.x, jnp.full(examples, number, jnp.int32))
            outputs.append(jax.block_until_ready(outputs_of(net, Batch(x, data.y))))
            advance(1, "")
    if not neighbour_weight:
        return jnp.stack(outputs)
    weights = np.eye(augment.count) + neighbour_weight * augment.neighbours()
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return jnp.tensordot(weights, jnp.stack(outputs), 1)


def _asked(data: Batch, augment: Variants | None) -> int:
    return (1 if augment is None else augment.count) * int(jax.tree.leaves(data.x)[0].shape[0])


def _answer_bytes(net: Net, data: Batch) -> int:
    one = jax.eval_shape(lambda net, x: net(x), net, jax.tree.map(lambda leaf: leaf[:1], data.x))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
