"""Do a net, its data, loss, metric and augmentation fit together? Said in one line, before anything is computed."""

from __future__ import annotations

import jax
import numpy as np

from jax_prune import datasets, learning
from jax_prune.errors import BadInput, said
from jax_prune.learning import ExampleFunction
from jax_prune.types import Batch, Net


def check_fit(
    net: Net,
    batch: Batch,
    loss: ExampleFunction,
    metric: ExampleFunction,
    name: str,
    augment: learning.Augmentation | None = None,
) -> None:
    """Raises BadInput, in one line, where data, net, loss, metric, augmentation do not fit; computes nothing."""
    few = jax.tree.map(lambda leaf: leaf[:2], batch)
    if augment is not None:
        jax.eval_shape(augment, jax.random.key(0), jax.tree.map(np.asarray, few.x))
    examples = len(jax.tree.leaves(few.x)[0])
    try:
        outputs = jax.eval_shape(lambda net, x: net(x), net, few.x)
    except Exception as error:
        raise BadInput(f"{name}: the net does not take it: {said(error)}") from error
    if loss is learning.cross_entropy:
        datasets.check(batch, classes=outputs.shape[-1], name=name)
    for role, function in (("loss", loss), ("metric", metric)):
        try:
            shape = jax.eval_shape(function, outputs, few).shape
        except Exception as error:
            raise BadInput(f"{name}: the {role} does not take it: {said(error)}") from error
        if shape != (examples,):
            raise BadInput(
                f"{name}: the {role} of {examples} examples has shape {list(shape)}: give one number each, [B]"
            )
    try:
        jax.eval_shape(jax.grad(lambda params: loss(net.replace(params=params)(few.x), few).mean()), net.params)
    except Exception as error:
        raise BadInput(f"{name}: the loss cannot be differentiated: {said(error)}") from error
