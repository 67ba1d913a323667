"""Layers as the zoo's image networks make them; NHWC, kernels HWIO."""

from __future__ import annotations

from typing import Any

from flax import nnx

from jax_prune.nets.lowering import conv_general

LIST = getattr(nnx, "List", list)  # Flax before 0.12 holds modules in plain lists
# He et al. 2015, equation 14: normal, of variance 2 over a kernel's outgoing connections
he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolution(
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
    kernel_init: Any = he_normal,
    bias_init: Any = nnx.initializers.zeros,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A ``size`` x ``size`` convolution; without ``padding`` as much as keeps the image's size at stride 1."""
    around = size // 2 if padding is None else padding
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=((around, around), (around, around)),
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=kernel_init,
        bias_init=bias_init,
        conv_general_dilated=conv_general,
        rngs=rngs,
    )


def normalization(channels: int, *, epsilon: float = 1e-5) -> nnx.BatchNorm:
    """Batch normalisation whose statistics go a tenth of the way to each batch's, as in Torch."""
    rngs: Any = _NoKeys()
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=epsilon, rngs=rngs)


class _NoKeys:
    """In place of nnx.Rngs where initial values are constants: keys, two a layer, cost more than all else there."""

    def params(self) -> None:
        return None


def scaled(channels: int, width: float, groups: int = 1) -> int:
    """``channels`` times ``width``, rounded to a multiple of ``groups``; at least one a group."""
    return max(round(channels * width / groups), 1) * groups
