"""The one training loop: dense training, tuning under masks, recovery of removed connections, gated channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.learning import gates
from jax_prune.learning.augmentation import Augmentation, Variants
from jax_prune.learning.gates import Gating
from jax_prune.learning.objectives import ExampleFunction, with_teacher
from jax_prune.pruning import masks as masking
from jax_prune.types import Array, Batch, Masks, Net, Tree

CHUNK = 100  # steps in one compiled scan: between two, masks may change, the bar moves and Ctrl-C works
UPDATES = 2**32 - 1  # folded into the key for mask updates: no chunk has this number
SMOOTH = 0.999  # of the running mean of squared gradients

MaskUpdate = Callable[[Array, int, Tree, Tree, Masks], Masks]


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
    carry = _start(net, recipe, gating)
    apply = net.apply if gating is None else gating.gated.apply
    losses = []
    with progress.bar(title, chunks * CHUNK) as advance:
        for chunk, indices in zip(range(chunks), _shuffled(key, data, recipe.batch_size), strict=False):
            if recovery and 0 < chunk == freeze_at:
                masks = recovery.freeze(carry.params, carry.square)
            rate = recovery.rate if recovery and chunk < freeze_at else 0.0
            clock = _Clock(jnp.float32(chunk / chunks), jnp.float32(1 / chunks / CHUNK), jnp.float32(rate))
            carry, mean_loss = _advance(
                apply, loss, recipe, carry, masks, gating, data, teacher, indices, clock, jax.random.fold_in(key, chunk)
            )
            losses.append(float(mean_loss))
            if not np.isfinite(losses[-1]):
                raise BadInput(
                    f"{title}: the loss is {losses[-1]} at step {(chunk + 1) * CHUNK}; lower the learning rate"
                )
            if recovery and chunk < freeze_at - 1:
                update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), chunk)
                masks = recovery.update(update_key, (chunk + 1) * CHUNK, carry.params, carry.square, masks)
            advance(CHUNK, f"loss {losses[-1]:.4f}")
    flags = () if gating is None else gating.flags(carry.gates, jnp.float32(1))
    if gating is not None:
        removal = masking.scatter(masking.full(net.params), net.params, gating.gated.groups, flags)
        masks = jax.tree.map(jnp.logical_and, masks, removal)
    trained = net.replace(params=masking.apply(carry.params, masks), state=carry.state)
    return Trained(trained, masks, np.asarray(losses, np.float32), tuple(map(np.asarray, flags)))


def chunks_of(steps: int) -> int:
    """Whole chunks that hold ``steps``; at least one."""
    return max(1, -(-steps // CHUNK))


class _Carry(NamedTuple):
    params: Tree  # dense: a pruned weight keeps a latent value while it may return
    optimizer: Any
    state: Tree
    square: Tree  # running mean of the squared gradient at the masked weights
    gates: Any  # what the gating remembers


def _start(net: Net, recipe: Recipe, gating: Gating | None) -> _Carry:
    params = jax.tree.map(jnp.array, net.params)  # a copy: the carry's buffers are donated
    state = jax.tree.map(jnp.array, net.state)
    square = jax.tree.map(jnp.zeros_like, params)
    return _Carry(params, recipe.direction().init(params), state, square, None if gating is None else gating.start())


class _Clock(NamedTuple):
    """Scalars of one chunk: share of the run done, share of one step, recovery rate."""

    start: Array
    tick: Array
    recovery_rate: Array


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _advance(
    apply: Any,
    loss: ExampleFunction,
    recipe: Recipe,
    carry: _Carry,
    masks: Masks,
    gating: Gating | None,
    data: Batch,
    teacher: Net | Array | None,
    indices: Array,
    clock: _Clock,
    key: Array,
) -> tuple[_Carry, Array]:
    """One chunk: ``indices`` [CHUNK, batch] name the examples of every step."""
    optimizer = recipe.direction()
    coupled, decoupled = (recipe.weight_decay, 0.0) if recipe.coupled else (0.0, recipe.weight_decay)

    def objective(params: Tree, opened: Any, state: Tree, batch: Batch, key: Array) -> tuple[Array, Tree]:
        given = () if gating is None else (opened,)
        outputs, state = apply(params, state, batch.x, *given, train=True, key=key)
        return loss(outputs, batch).mean(), state

    def step(carry: _Carry, inputs: tuple[Array, Array]) -> tuple[_Carry, Array]:
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
        return _Carry(params, optimizer_state, state, square, gate_state), value

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


def _shuffled(key: Array, data: Batch, batch_size: int) -> Iterator[np.ndarray]:
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
