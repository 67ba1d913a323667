"""A chunk of training steps as one pure function, and the order in which examples come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_prune.learning.augmentation import Augmentation, Variants
from jax_prune.learning.gates import Gating
from jax_prune.learning.objectives import ExampleFunction, with_teacher
from jax_prune.pruning import masks as masking
from jax_prune.types import Array, Batch, Masks, Net, Tree

CHUNK = 100  # steps in one compiled scan: between two, masks may change, the bar moves and Ctrl-C works
SMOOTH = 0.999  # of the running mean of squared gradients


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train; static and hashable, so that runs with equal recipes share one compiled program.

    ``direction()`` makes the optax transformation that turns gradients into steps of length about one,
    without a learning rate: ``optax.scale_by_adam``, ``optax.identity`` for SGD, a partial of ``optax.trace``
    for momentum. The rate warms up over the share ``warmup`` of the run, then falls to zero along a cosine; with
    ``milestones``, shares of the run, it is multiplied by ``drop`` at each instead. Weight decay is decoupled
    (Loshchilov & Hutter 2019), or ``coupled``: added to the gradient as in torch's SGD, where
    ``partial(optax.trace, decay=0.9)`` is its momentum. ``augment(key, x) -> x`` runs on the device.
    """

    direction: Callable[[], optax.GradientTransformation] = optax.scale_by_adam
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    batch_size: int = 128
    augment: Augmentation | None = None
    milestones: tuple[float, ...] = ()
    drop: float = 0.1
    coupled: bool = False

    def rate(self, progress: Array) -> Array:
        """The learning rate of the step that ends when the share ``progress`` of the run is done."""
        if self.milestones:
            passed = (progress > jnp.asarray(self.milestones)).sum()
            warm = jnp.minimum(progress / self.warmup, 1.0) if self.warmup else 1.0
            return self.learning_rate * warm * self.drop**passed
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, int(1e4 * self.warmup), 10_000)
        return schedule(progress * 10_000)


def chunks_of(steps: int) -> int:
    """Whole chunks that hold ``steps``; at least one."""
    return max(1, -(-steps // CHUNK))


class Carry(NamedTuple):
    params: Tree  # dense: a pruned weight keeps a latent value while it may return
    optimizer: Any
    state: Tree
    square: Tree  # running mean of the squared gradient at the masked weights
    gates: Any  # what the gating remembers


def start(net: Net, recipe: Recipe, gating: Gating | None) -> Carry:
    params = jax.tree.map(jnp.array, net.params)  # a copy: the carry's buffers are donated
    state = jax.tree.map(jnp.array, net.state)
    square = jax.tree.map(jnp.zeros_like, params)
    return Carry(params, recipe.direction().init(params), state, square, None if gating is None else gating.start())


class Clock(NamedTuple):
    """Scalars of one chunk: share of the run done, share of one step, recovery rate."""

    start: Array
    tick: Array
    recovery_rate: Array


def chunk(
    apply: Any,
    loss: ExampleFunction,
    recipe: Recipe,
    carry: Carry,
    masks: Masks,
    gating: Gating | None,
    data: Batch,
    teacher: Net | Array | None,
    indices: Array,
    clock: Clock,
    key: Array,
) -> tuple[Carry, Array]:
    """One chunk: ``indices`` [CHUNK, batch] name the examples of every step."""
    optimizer = recipe.direction()
    coupled, decoupled = (recipe.weight_decay, 0.0) if recipe.coupled else (0.0, recipe.weight_decay)

    def objective(params: Tree, opened: Any, state: Tree, batch: Batch, key: Array) -> tuple[Array, Tree]:
        given = () if gating is None else (opened,)
        outputs, state = apply(params, state, batch.x, *given, train=True, key=key)
        return loss(outputs, batch).mean(), state

    def step(carry: Carry, inputs: tuple[Array, Array]) -> tuple[Carry, Array]:
        number, index = inputs
        augment_key, apply_key = jax.random.split(jax.random.fold_in(key, number))
        batch = jax.tree.map(lambda leaf: leaf[index], data)
        batch = _presented(augment_key, batch, index, recipe.augment, teacher)
        masked = masking.apply(carry.params, masks)
        progress = clock.start + clock.tick * number
        flags = () if gating is None else gating.flags(carry.gates, progress)
        opened = tuple(jnp.broadcast_to(own, (index.shape[0], own.shape[0])).astype(jnp.float32) for own in flags)
        (value, state), (gradient, slopes) = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(
            masked, opened, carry.state, batch, apply_key
        )
        pull = jax.tree.map(lambda slope, param: slope + coupled * param, gradient, masked) if coupled else gradient
        direction, optimizer_state = optimizer.update(masking.apply(pull, masks), carry.optimizer, masked)
        rate = recipe.rate(clock.start + clock.tick * (number + 1))

        def moved(param: Array, mask: Array, step: Array, slope: Array) -> Array:
            kept = param - rate * (step + decoupled * param)
            latent = param - jnp.clip(clock.recovery_rate * slope, -rate / 2, rate / 2)
            return jnp.where(mask, kept, latent)

        params = jax.tree.map(moved, carry.params, masks, direction, gradient)
        square = jax.tree.map(lambda mean, slope: SMOOTH * mean + (1 - SMOOTH) * slope**2, carry.square, gradient)
        gate_state = None if gating is None else gating.step(carry.gates, flags, slopes, progress)
        return Carry(params, optimizer_state, state, square, gate_state), value

    carry, values = jax.lax.scan(step, carry, (jnp.arange(CHUNK), indices))
    return carry, values.mean()


def _presented(
    key: Array, batch: Batch, index: Array, augment: Augmentation | None, teacher: Net | Array | None
) -> Batch:
    """The batch of examples ``index`` [B] as augmented, with what the teacher says of just these inputs."""
    if isinstance(augment, Variants):
        variants = augment.draw(key, index.shape[0])
        batch = batch._replace(x=augment.variant(batch.x, variants))
    else:
        variants = jnp.zeros_like(index)
        batch = batch if augment is None else batch._replace(x=augment(key, batch.x))
    if teacher is None:
        return batch
    return with_teacher(batch, teacher(batch.x) if isinstance(teacher, Net) else teacher[variants, index])


def shuffled(key: Array, data: Batch, batch_size: int) -> Iterator[np.ndarray]:
    """Indices [CHUNK, batch] without end; every epoch visits the examples in a new order, drawn on the host."""
    examples = jax.tree.leaves(data.x)[0].shape[0]
    batch_size = min(batch_size, examples)
    generator = np.random.Generator(np.random.Philox(np.asarray(jax.random.key_data(key)).tolist()))
    per_epoch = examples // batch_size * batch_size
    waiting = np.empty(0, np.int32)
    while True:
        while waiting.size < CHUNK * batch_size:
            order = generator.permutation(examples).astype(np.int32)[:per_epoch]
            waiting = np.concatenate([waiting, order])
        yield waiting[: CHUNK * batch_size].reshape(CHUNK, batch_size)
        waiting = waiting[CHUNK * batch_size :]
