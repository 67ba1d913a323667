"""The one training loop: dense training, tuning under masks, recovery of removed connections, gated channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.learning import gates
from jax_prune.learning.gates import Gating
from jax_prune.learning.objectives import ExampleFunction
from jax_prune.learning.steps import CHUNK, Clock, Recipe, chunk, chunks_of, shuffled, start
from jax_prune.pruning import masks as masking
from jax_prune.types import Array, Batch, Masks, Net, Tree

UPDATES = 2**32 - 1  # folded into the key for mask updates: no chunk has this number

MaskUpdate = Callable[[Array, int, Tree, Tree, Masks], Masks]


class Recovery(NamedTuple):
    """How removed connections may return while a net is tuned.

    Until ``until`` of the run, removed weights take plain gradient steps of ``rate`` times the gradient at the
    masked weights, each at most half the learning rate (Adam's normalised steps on them diverge), and every chunk
    ``update(key, step, params, square, masks)`` gives new masks; at ``until``, ``freeze(params, square)`` makes
    them final. ``params`` are dense, ``square`` is a running mean of the squared gradient.
    """

    update: MaskUpdate
    freeze: Callable[[Tree, Tree], Masks]
    until: float
    rate: float


class Trained(NamedTuple):
    """``net`` with masked parameters, its final ``masks``, and the mean training loss of every chunk.

    ``kept`` bool [n_g], one array a group, says which units a gated training left: the masks leave out all that
    belongs to the others, so that the net needs no gates any more.
    """

    net: Net
    masks: Masks
    losses: np.ndarray
    kept: tuple[np.ndarray, ...] = ()


def train(
    key: Array,
    net: Net,
    data: Batch,
    recipe: Recipe,
    *,
    loss: ExampleFunction,
    steps: int,
    masks: Masks | None = None,
    recovery: Recovery | None = None,
    teacher: Net | Array | None = None,
    gating: Gating | None = None,
    title: str = "train",
) -> Trained:
    """Trains ``net`` on ``data`` (leading axis B on every leaf) for ``steps``, rounded up to whole chunks.

    ``masks`` stay as they are unless ``recovery`` lets removed connections return. The steps' examples are
    drawn without replacement, epoch by epoch, from ``key`` alone. With a ``teacher`` the loss is given targets
    ``Taught(y, teacher's outputs)`` for the inputs as augmented: a net is asked at every step, an array [V, B, C]
    holds the answers already (see ``teacher_of``). With a ``gating`` (see ``gates``) channels are switched on and off
    in every step, and those that are off at the end are masked. Raises BadInput when the loss diverges, and for gates
    whose zeros would not be a removal.
    """
    if gating is not None:
        gates.check_silence(net, gating.gated, jax.tree.map(lambda leaf: leaf[:2], data.x))
    masks = masking.full(net.params) if masks is None else masks
    chunks = chunks_of(steps)
    freeze_at = min(int(recovery.until * chunks), chunks - 1) if recovery else 0  # 0: too short to recover
    carry = start(net, recipe, gating)
    apply = net.apply if gating is None else gating.gated.apply
    losses = []
    with progress.bar(title, chunks * CHUNK) as advance:
        for number, indices in zip(range(chunks), shuffled(key, data, recipe.batch_size), strict=False):
            if recovery and 0 < number == freeze_at:
                masks = recovery.freeze(carry.params, carry.square)
            rate = recovery.rate if recovery and number < freeze_at else 0.0
            clock = Clock(jnp.float32(number / chunks), jnp.float32(1 / chunks / CHUNK), jnp.float32(rate))
            carry, mean_loss = _advance(
                apply,
                loss,
                recipe,
                carry,
                masks,
                gating,
                data,
                teacher,
                indices,
                clock,
                jax.random.fold_in(key, number),
            )
            losses.append(float(mean_loss))
            if not np.isfinite(losses[-1]):
                raise BadInput(
                    f"{title}: the loss is {losses[-1]} at step {(number + 1) * CHUNK}; lower the learning rate"
                )
            if recovery and number < freeze_at - 1:
                update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), number)
                masks = recovery.update(update_key, (number + 1) * CHUNK, carry.params, carry.square, masks)
            advance(CHUNK, f"loss {losses[-1]:.4f}")
    flags = () if gating is None else gating.flags(carry.gates, jnp.float32(1))
    if gating is not None:
        removal = masking.scatter(masking.full(net.params), net.params, gating.gated.groups, flags)
        masks = jax.tree.map(jnp.logical_and, masks, removal)
    trained = net.replace(params=masking.apply(carry.params, masks), state=carry.state)
    return Trained(trained, masks, np.asarray(losses, np.float32), tuple(map(np.asarray, flags)))


_advance = partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)(chunk)
