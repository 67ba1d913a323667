"""Training of one architecture from several seeds at once: one compiled step, the seeds side by side or in turn.

Measured on two CPU cores, seeds under vmap cost recurrent and convolutional networks 1.3 to 1.5 times what they cost
one after the other; on accelerators a small network leaves most of the device idle. So ``lax.map`` on CPU, and vmap
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.learning.loop import Trained
from jax_prune.learning.objectives import ExampleFunction
from jax_prune.learning.steps import CHUNK, Carry, Clock, Recipe, chunk, chunks_of, shuffled, start
from jax_prune.pruning import masks as masking
from jax_prune.types import Array, Batch, Masks, Net, Tree


def train_seeds(
    keys: Sequence[Array],
    nets: Sequence[Net],
    data: Batch,
    recipe: Recipe,
    *,
    loss: ExampleFunction,
    steps: int,
    title: str = "train",
) -> tuple[Trained, ...]:
    """What ``train`` gives of every ``nets[s]`` with ``keys[s]``, up to rounding: S nets of one architecture.

    Raises BadInput for nets of several architectures, and when a loss diverges.
    """
    if len(keys) != len(nets) or len({(net.apply, jax.tree.structure(net)) for net in nets}) != 1:
        raise BadInput(f"{len(keys)} keys and {len(nets)} nets: give one key each, and nets of one architecture")
    masks = masking.full(nets[0].params)
    carries = _stacked([start(net, recipe, None) for net in nets])
    orders = [shuffled(key, data, recipe.batch_size) for key in keys]
    chunks, losses = chunks_of(steps), []
    with progress.bar(title, chunks * CHUNK) as advance:
        for number, *indices in zip(range(chunks), *orders, strict=False):
            clock = Clock(jnp.float32(number / chunks), jnp.float32(1 / chunks / CHUNK), jnp.float32(0))
            folded = jnp.stack([jax.random.fold_in(key, number) for key in keys])
            carries, mean_losses = _advance(
                nets[0].apply, loss, recipe, carries, masks, data, np.stack(indices), clock, folded
            )
            losses.append(np.asarray(mean_losses))
            if not np.isfinite(losses[-1]).all():
                step = (number + 1) * CHUNK
                raise BadInput(f"{title}: the losses are {losses[-1]} at step {step}; lower the learning rate")
            advance(CHUNK, f"loss {losses[-1].mean():.4f}")
    each = [jax.tree.map(lambda leaf, s=seed: leaf[s], carries) for seed in range(len(nets))]
    return tuple(
        Trained(net.replace(params=own.params, state=own.state), masks, np.asarray(values, np.float32))
        for net, own, values in zip(nets, each, np.stack(losses, axis=1), strict=True)
    )


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _advance(
    apply: Any,
    loss: ExampleFunction,
    recipe: Recipe,
    carries: Carry,
    masks: Masks,
    data: Batch,
    indices: Array,
    clock: Clock,
    keys: Array,
) -> tuple[Carry, Array]:
    """One chunk of every seed: ``indices`` [S, CHUNK, batch], leading axes S."""

    def one(own: tuple[Carry, Array, Array]) -> tuple[Carry, Array]:
        carry, index, key = own
        return chunk(apply, loss, recipe, carry, masks, None, data, None, index, clock, key)

    together = partial(jax.lax.map, one) if jax.default_backend() == "cpu" else jax.vmap(one)
    return together((carries, indices, keys))


def _stacked(trees: Sequence[Tree]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
