"""Which axes of a kernel are inputs, along which a pattern of N of every M inputs, or of tiles, is read; its layer."""

from __future__ import annotations

import math

from jax_prune.errors import BadInput

PROJECTIONS = ("query", "key", "value")  # Flax's attention calls its kernels [D, H, dh] so, and [H, dh, D] "out"
ATTENTION_OUT = "out"
KERNEL_NAMES = ("kernel", "embedding")

Shape = tuple[int, ...]


def matrix(path: str, shape: Shape, bias: Shape | None, inputs: int | None = None) -> tuple[int, int]:
    """Inputs and outputs of a kernel, whose leading axes are inputs and the others outputs; see ``input_axes``."""
    axes = input_axes(path, shape, bias, inputs)
    return math.prod(shape[:axes]), math.prod(shape[axes:])


def input_axes(path: str, shape: Shape, bias: Shape | None, inputs: int | None = None) -> int:
    """How many leading axes of the kernel at ``path`` are inputs: ``inputs`` where that is given.

    A layer's ``bias`` has its outputs' axes: [H, dh] beside attention's [D, H, dh], [O] beside its [H, dh, O] and a
    convolution's [k, I, O]. Without one Flax's names of attention tell, and four axes or more are a convolution's.
    Raises BadInput for three axes of which nothing tells, and for ``inputs`` that leave none to the outputs.
    """
    if inputs is not None:
        if not 1 <= inputs < len(shape):
            raise BadInput(f"inputs={inputs} of {path}, {list(shape)}: give 1 to {len(shape) - 1} leading axes")
        return inputs
    if bias and len(bias) < len(shape) and shape[-len(bias) :] == bias:
        return len(shape) - len(bias)
    layer = path.split("/")[-2] if "/" in path else ""
    if layer in PROJECTIONS and len(shape) == 3:
        return 1
    if len(shape) == 3 and layer != ATTENTION_OUT:
        raise BadInput(
            f"kernel {path}, {list(shape)}, has no bias that tells inputs from outputs: add to its rule inputs=1 for "
            "attention's [D, H, dh], or inputs=2 for a convolution's [k, I, O]"
        )
    return len(shape) - 1


def layer_of(path: str) -> str:
    """What a group of the leaf at ``path`` is named after: its layer where the leaf is a kernel, else itself."""
    parent, _, leaf = path.rpartition("/")
    return parent if parent and leaf in KERNEL_NAMES else path
