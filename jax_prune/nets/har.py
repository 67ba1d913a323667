"""Eight recurrent networks for human activity recognition.

LSTM, BiLSTM, GRU, BiGRU, and each behind two convolutions: which eight, and no more, is from Mekruksavanich and
Jitpattanakul (Electronics 2021, 10(14):1685), whose settings we do not know. Ours: causal convolutions of length 5 with
ReLU and 64 filters, dropout of a quarter before the maximum over pairs of samples and before the classes, one recurrent
layer of 32 units a direction, its last state read by one dense layer; forget gates begin with a bias of one
(Jozefowicz et al. 2015), all else as Flax and He et al. draw it. Windows are floats [B, T, C], standardised by channel.

A network that reads forwards alone also runs sample by sample:

    stream, step = nets.streaming(net)  # net = nets.build("cnn_gru"), trained, compacted or not
    stream, logits = jax.jit(step)(net.params, stream, sample)  # sample [1, C]; as of a window that ends here
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.errors import BadInput
from jax_prune.nets import recurrent
from jax_prune.nets.lowering import conv_general
from jax_prune.nets.recurrent import Carry
from jax_prune.types import Array, Net, Tree

KERNEL, POOL = 5, 2  # samples
he_normal = nnx.initializers.he_normal()


class Stream(NamedTuple):
    """What a network remembers of the samples that it has seen.

    ``recent`` the last KERNEL - 1 inputs [B, KERNEL - 1, C] of each convolution, zeros before the first; ``pooled``
    [B, filters] the maximum over the samples of the pair that is open, and ``phase`` int32 [] how many it has; both
    empty without convolutions.
    """

    recent: tuple[Array, ...]
    pooled: tuple[Array, ...]
    phase: tuple[Array, ...]
    state: Carry


class HAR(nnx.Module):
    """conv1, conv2 where it has ``convolutions``; forward, and backward where it is ``bidirectional``; fc."""

    forward: Any  # nnx.GRUCell or nnx.OptimizedLSTMCell

    def __init__(
        self,
        *,
        cell: str = "gru",
        bidirectional: bool = False,
        convolutions: bool = False,
        units: int = 32,
        features: int = 6,
        num_classes: int = 6,
        filters: int = 64,
        dropout: float = 0.25,
        rngs: nnx.Rngs,
    ):
        counts = {"units": units, "features": features, "num_classes": num_classes, "filters": filters}
        if wrong := [name for name, count in counts.items() if count < 1]:
            raise BadInput(f"{wrong[0]} is {counts[wrong[0]]}: give 1 or more")
        self.features = features
        self.convolutions = ("conv1", "conv2") if convolutions else ()
        self.ways = ("forward", "backward") if bidirectional else ("forward",)
        inputs = features
        for name in self.convolutions:
            setattr(self, name, _convolution(inputs, filters, rngs))
            inputs = filters
        for name in self.ways:
            setattr(self, name, _cell(cell, inputs, units, rngs))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.fc = nnx.Linear(units * len(self.ways), num_classes, rngs=rngs)

    def __call__(self, windows: Array) -> Array:
        """Windows [B, T, C] to logits [B, num_classes]. Raises BadInput for other shapes."""
        least = POOL if self.convolutions else 1
        if windows.ndim != 3 or windows.shape[-1] != self.features or windows.shape[1] < least:
            raise BadInput(
                f"this network takes windows [B, T, {self.features}], T at least {least}, and was given "
                f"{list(windows.shape)}: choose another data set, or build it with features="
            )
        x = windows
        for name in self.convolutions:
            x = jax.nn.relu(getattr(self, name)(x))
        if self.convolutions:
            x = _pooled(self.dropout(x))
        states = [recurrent.last_state(getattr(self, way), x, reverse=way == "backward") for way in self.ways]
        return self.fc(self.dropout(jnp.concatenate(states, axis=-1)))

    def start(self, batch: int = 1) -> Stream:
        """What is remembered before the first sample. Raises BadInput for a network that also reads backwards."""
        if len(self.ways) > 1:
            raise BadInput(
                "a bidirectional network begins at a window's last sample and cannot run sample by sample: "
                "choose lstm, gru, cnn_lstm or cnn_gru"
            )
        kernels = [getattr(self, name).kernel[...] for name in self.convolutions]
        dtype = self.fc.kernel[...].dtype
        recent = tuple(jnp.zeros((batch, KERNEL - 1, kernel.shape[1]), dtype) for kernel in kernels)
        pooled = tuple(jnp.zeros((batch, kernel.shape[2]), dtype) for kernel in kernels[-1:])
        phase = (jnp.int32(0),) * len(pooled)
        return Stream(recent, pooled, phase, recurrent.zeros(self.forward, jnp.zeros((batch, 0), dtype)))

    def step(self, stream: Stream, sample: Array) -> tuple[Stream, Array]:
        """One sample [B, C] on: logits [B, num_classes] as of the window of all samples so far.

        With convolutions the recurrent state moves at every second sample. Raises BadInput for another shape.
        """
        if sample.ndim != 2 or sample.shape[-1] != self.features:
            raise BadInput(f"a step takes samples [B, {self.features}] and was given {list(sample.shape)}")
        if not self.convolutions:
            stream = stream._replace(state=recurrent.next_state(self.forward, stream.state, sample))
            return stream, self.fc(stream.state[-1])
        x, kept = sample, []
        for name, recent in zip(self.convolutions, stream.recent, strict=True):
            window = jnp.concatenate([recent, x[:, None]], axis=1)
            kept.append(window[:, 1:])
            x = jax.nn.relu(_product(getattr(self, name), window))
        (pooled,), (phase,) = stream.pooled, stream.phase
        pooled = jnp.where(phase == 0, x, jnp.maximum(pooled, x))
        state = jax.lax.cond(
            phase == POOL - 1,
            lambda state: recurrent.next_state(self.forward, state, pooled),
            lambda state: state,
            stream.state,
        )
        return Stream(tuple(kept), (pooled,), ((phase + 1) % POOL,), state), self.fc(state[-1])


def streaming(net: Net, batch: int = 1) -> tuple[Stream, Callable[[Tree, Stream, Array], tuple[Stream, Array]]]:
    """The stream before the first sample, and ``step(params, stream, sample [B, C]) -> (stream, logits)``.

    For ``net`` of HAR, compacted or not. ``step`` is pure, and equal for equal architectures; new weights recompile
    nothing. Raises BadInput for other networks and for those that also read backwards.
    """
    module = net.rebuild(net.params, net.state)
    if not isinstance(module, HAR):
        raise BadInput(f"a {type(module).__name__} cannot run sample by sample: give a net of nets.har")
    return module.start(batch), _Step(net.rebuild)


@dataclasses.dataclass(frozen=True)
class _Step:
    rebuild: Callable[[Tree, Tree], Any]

    def __call__(self, params: Tree, stream: Stream, sample: Array) -> tuple[Stream, Array]:
        return self.rebuild(params, {}).step(stream, sample)


def _cell(name: str, inputs: int, units: int, rngs: nnx.Rngs) -> nnx.Module:
    if name == "gru":
        return nnx.GRUCell(inputs, units, rngs=rngs)
    if name == "lstm":
        return nnx.OptimizedLSTMCell(inputs, units, bias_init=_forget, rngs=rngs)
    raise BadInput(f"there is no cell '{name}': give gru or lstm")


def _convolution(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        outputs,
        (KERNEL,),
        padding="CAUSAL",
        kernel_init=he_normal,
        conv_general_dilated=conv_general,
        rngs=rngs,
    )


def _product(convolution: Any, window: Array) -> Array:
    """A convolution's output [B, filters] at the last sample of its window [B, KERNEL, C]."""
    return jnp.einsum("bkc,kcf->bf", window, convolution.kernel[...]) + convolution.bias[...]


def _pooled(x: Array) -> Array:
    """Maximum over pairs of samples, an odd last one left out: [B, T, C] to [B, T // 2, C]."""
    batch, length, channels = x.shape
    return x[:, : length // POOL * POOL].reshape(batch, length // POOL, POOL, channels).max(2)


def _forget(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Biases of an LSTM's stacked gates: ones for the second, the forget gate."""
    zeros = jnp.zeros(shape, dtype)
    return zeros.at[shape[0] // 4 : shape[0] // 2].set(1)
