"""What a teacher says of the training data: asked once where there is little to ask, else at every step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_prune import progress
from jax_prune.learning.augmentation import Augmentation, Variants
from jax_prune.learning.evaluation import outputs_of
from jax_prune.types import Array, Batch, Net

MEMORY = 2**30  # bytes that kept answers may take


def teacher_of(net: Net, data: Batch, augment: Augmentation | None, questions: int) -> Net | Array:
    """What ``train`` is to be given as teacher: ``net``, or its answers [V, B, ...] where asking once is cheaper.

    ``questions`` is how many examples training will ask about in all. Without augmentation V is 1; an
    augmentation of few ``Variants`` has its count; any other, or answers beyond MEMORY, leave the net itself.
    """
    variants = augment.count if isinstance(augment, Variants) else 1
    examples = jax.tree.leaves(data.x)[0].shape[0]
    if augment is not None and not isinstance(augment, Variants):
        return net
    if variants * examples > questions or variants * examples * _answer_bytes(net, data) > MEMORY:
        return net
    return answers(net, data, augment)


def answers(net: Net, data: Batch, augment: Variants | None) -> Array:
    """Outputs [V, B, ...] of ``net`` for every example of ``data`` under every variant of ``augment``."""
    examples = jax.tree.leaves(data.x)[0].shape[0]
    if augment is None:
        return outputs_of(net, data)[None]
    outputs = []
    with progress.bar("teacher's answers", augment.count) as advance:
        for number in range(augment.count):
            x = augment.variant(data.x, jnp.full(examples, number, jnp.int32))
            outputs.append(jax.block_until_ready(outputs_of(net, Batch(x, data.y))))
            advance(1, "")
    return jnp.stack(outputs)


def _answer_bytes(net: Net, data: Batch) -> int:
    one = jax.eval_shape(lambda net, x: net(x), net, jax.tree.map(lambda leaf: leaf[:1], data.x))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
