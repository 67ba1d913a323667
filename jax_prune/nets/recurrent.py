"""Recurrent layers over windows whose steps cost one matrix product each.

The cells are Flax's nnx.GRUCell and nnx.OptimizedLSTMCell, their equations and parameters unchanged; only the order of
work is another: the inputs of all steps are projected before the scan, and the recurrent kernel's gradient is taken by
one product a gate after it. Inputs x, hidden state h, kernels W and U with the gates side by side in their outputs:

    GRU, gates r z n     n = tanh(x W_n + b_n + r * (h U_n))      r resets after the product (Keras's reset_after)
                         h' = (1 - z) * n + z * h                 one bias a gate, in dense_i; none on h U_n
    LSTM, gates i f g o  c' = f * c + i * g, h' = o * tanh(c')    one bias a gate, in dense_h; no peepholes

Measured on two shared CPU cores, jax 0.10.2, windows of 128 samples of 6 axes, medians of interleaved runs: a training
step of 64 windows takes 0.8 to 1.2 times as long as with nnx.RNN (32 and 128 units, GRU and LSTM, one way and both),
one window alone 0.8 to 1.3 times. Left to JAX, the gradient of a GRU's scan with projected inputs took 1.3 to 2.2 times
nnx.RNN's. Unrolling the scan gained nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.types import Array

Carry = tuple[Array, ...]  # float [B, units] each, the hidden state last; an LSTM's cell state before it
Gates = tuple[Array, ...]  # float [B, units] each, or [T, B, units]


class Kind(NamedTuple):
    """``step(carry, sums)`` of a cell, and in which of the sums each gate's share of the inputs and products goes."""

    step: Callable[[Carry, Gates], Carry]
    inputs: tuple[int, ...]
    products: tuple[int, ...]
    states: int = 1

    def sums(self, inputs: Gates, products: Gates) -> Gates:
        """What stands before the activations."""
        found = dict(zip(self.inputs, inputs, strict=True))
        for place, product in zip(self.products, products, strict=True):
            found[place] = found[place] + product if place in found else product
        return tuple(found[place] for place in sorted(found))


def _gru(carry: Carry, sums: Gates) -> Carry:
    (hidden,), (reset, update, new, product) = carry, sums
    update = jax.nn.sigmoid(update)
    return ((1 - update) * jnp.tanh(new + jax.nn.sigmoid(reset) * product) + update * hidden,)


def _lstm(carry: Carry, sums: Gates) -> Carry:
    (cell, _), (entry, forget, new, output) = carry, sums
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entry) * jnp.tanh(new)
    return cell, jax.nn.sigmoid(output) * jnp.tanh(cell)


KINDS: dict[type[Any], Kind] = {
    nnx.GRUCell: Kind(_gru, (0, 1, 2), (0, 1, 3)),  # r scales the product alone
    nnx.OptimizedLSTMCell: Kind(_lstm, (0, 1, 2, 3), (0, 1, 2, 3), states=2),
}


def last_state(cell: Any, x: Array, *, reverse: bool = False) -> Array:
    """Hidden state [B, units] of ``cell`` after the samples of x [B, T, C]; with ``reverse`` the first comes last."""
    samples = x.swapaxes(0, 1)
    inputs = _projected(cell, samples[::-1] if reverse else samples)
    return _scanned(KINDS[type(cell)], cell.dense_h.kernel[...], zeros(cell, inputs[0][0]), inputs)[-1]


def next_state(cell: Any, carry: Carry, sample: Array) -> Carry:
    """The carry after one sample [B, C]."""
    kind = KINDS[type(cell)]
    return _turned(kind, cell.dense_h.kernel[...], carry, _projected(cell, sample))[0]


def zeros(cell: Any, like: Array) -> Carry:
    """The carry before the first sample, for as many examples as ``like`` [B, ...] has, of its type."""
    return (jnp.zeros((like.shape[0], cell.dense_h.kernel[...].shape[0]), like.dtype),) * KINDS[type(cell)].states


def _projected(cell: Any, x: Array) -> Gates:
    """The inputs' share of every gate, biases included: of x [..., C] arrays [..., units].

    On CPU a product a gate, as slices of the columns of one are slow, and of a matrix, as its gradient is fast.
    """
    bias = cell.dense_h.bias if cell.dense_i.bias is None else cell.dense_i.bias
    count = len(KINDS[type(cell)].inputs)
    columns = jnp.split(cell.dense_i.kernel[...], count, axis=-1), jnp.split(bias[...], count)
    rows = x.reshape(-1, x.shape[-1])
    return tuple((rows @ kernel + own).reshape(*x.shape[:-1], -1) for kernel, own in zip(*columns, strict=True))


def _turned(kind: Kind, kernel: Array, carry: Carry, inputs: Gates) -> tuple[Carry, Gates]:
    sums = kind.sums(inputs, tuple(jnp.split(carry[-1] @ kernel, len(kind.products), axis=-1)))
    return kind.step(carry, sums), sums


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scanned(kind: Kind, kernel: Array, carry: Carry, inputs: Gates) -> Carry:
    """The carry after all of ``inputs`` [T, B, units]."""
    return jax.lax.scan(lambda carry, at: (_turned(kind, kernel, carry, at)[0], None), carry, inputs)[0]


def _forward(kind: Kind, kernel: Array, carry: Carry, inputs: Gates) -> tuple[Carry, Any]:
    def turn(carry: Carry, at: Gates) -> tuple[Carry, tuple[Carry, Gates]]:
        after, sums = _turned(kind, kernel, carry, at)
        return after, (carry, sums)

    last, (before, sums) = jax.lax.scan(turn, carry, inputs)
    return last, (kernel, before, sums)


def _backward(kind: Kind, kept: Any, slopes: Carry) -> tuple[Array, Carry, Gates]:
    """The chain rule, but for the kernel's gradient: a sum over steps, which is one product of all of them."""
    kernel, before, sums = kept

    def turn(slopes: Carry, at: tuple[Carry, Gates]) -> tuple[Carry, Gates]:
        (*others, hidden), of_sums = jax.vjp(kind.step, *at)[1](slopes)
        of_product = jnp.concatenate([of_sums[place] for place in kind.products], axis=-1)
        return (*others, hidden + of_product @ kernel.T), of_sums

    slopes, of_sums = jax.lax.scan(turn, slopes, (before, sums), reverse=True)
    states = before[-1].reshape(-1, kernel.shape[0]).T
    of_kernel = [states @ of_sums[place].reshape(states.shape[1], -1) for place in kind.products]
    return jnp.concatenate(of_kernel, axis=-1), slopes, tuple(of_sums[place] for place in kind.inputs)


_scanned.defvjp(_forward, _backward)
