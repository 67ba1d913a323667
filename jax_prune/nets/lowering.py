"""How convolution and pooling are lowered on CPU, where XLA's own gradients are slow.

Measured on one core, LeNet-5, batch 128, jax 0.10.2: a training step inside lax.scan takes 570 ms with
conv_general_dilated and reduce_window, 31 ms as below. A forward pass alone stays with XLA's convolution, which
is twice as fast as the matrix product. VGG16 at width 1/8 and ResNet-20 at 1/2, batch 128, on two cores shared with
other work: 135 and 441 ms a step by patches alone, 97 and 184 ms as below. The values agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")
LAYOUTS = {3: ("NTC", "TIO", "NTC"), 4: LAYOUT}
FEW_GROUPS = 4  # of channels; with more, each group's matrix product is too narrow to gain anything

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv_general(lhs: Array, rhs: Array, window_strides: Any = (1, 1), padding: Any = "VALID", **options: Any) -> Array:
    """``lax.conv_general_dilated`` for NHWC images [B, H, W, C] and HWIO kernels, or windows [B, T, C] and TIO kernels.

    Where a convolution without dilation, of at most four groups, is differentiated on CPU, it becomes one matrix
    product a group with the gathered patches [B, h, w, kh*kw*C], or, small kernels on large maps, only its gradient by
    the kernel does; anything else goes to XLA. Windows are images one pixel high.
    """
    if jax.default_backend() == "cpu" and _is_plain(lhs.ndim, options):
        strides = tuple(map(int, window_strides))
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(lhs.shape[1:-1], rhs.shape[:-2], strides, padding)
        pads = tuple((int(low), int(high)) for low, high in padding)
        groups = int(options.get("feature_group_count", 1))
        if min(map(min, pads)) >= 0 and lhs.ndim == 4:
            return _convolution(lhs, rhs, _Window(strides, pads, groups))
        if min(map(min, pads)) >= 0:
            flat = _Window((1, *strides), ((0, 0), *pads), groups)
            return _convolution(lhs[:, None], rhs[None], flat).squeeze(1)
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


class _Window(NamedTuple):
    strides: tuple[int, ...]
    padding: Any  # ((top, bottom), (left, right))
    groups: int


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(images: Array, kernel: Array, window: _Window) -> Array:
    padding = window.padding
    if any(length < side for length, side in zip(images.shape[1:3], kernel.shape[:2], strict=True)):
        # XLA takes 247 ms for 32 images of 2x2x512 and its own padding, 7 ms for padded ones: it must not see that
        images = jax.lax.optimization_barrier(jnp.pad(images, ((0, 0), *padding, (0, 0))))
        padding = ((0, 0), (0, 0))
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        window.strides,
        padding,
        dimension_numbers=LAYOUT,
        feature_group_count=window.groups,
    )


def _forward(images: Array, kernel: Array, window: _Window) -> tuple[Array, Any]:
    if _has_cheap_shifts(images, kernel, window):
        return _convolution(images, kernel, window), (images, kernel)
    return jax.vjp(partial(_by_patches, window=window), images, kernel)


def _backward(window: _Window, kept: Any, gradient: Array) -> Any:
    if not isinstance(kept, tuple):
        return kept(gradient)
    images, kernel = kept
    return _of_images(kernel, gradient, window), _of_kernel(images, kernel, gradient, window)


_convolution.defvjp(_forward, _backward)


def _has_cheap_shifts(images: Array, kernel: Array, window: _Window) -> bool:
    """Maps no smaller than 8x8 and small kernels without strides: there patches cost more than their product."""
    height, width, channels, _ = kernel.shape
    return (
        window.strides == (1, 1)
        and window.groups == 1
        and 1 < height * width <= 9
        and channels >= 8
        and min(images.shape[1:3]) >= 8
        and all(low < side and high < side for (low, high), side in zip(window.padding, (height, width), strict=True))
    )


def _of_images(kernel: Array, gradient: Array, window: _Window) -> Array:
    """The gradient by the images: a convolution with the kernel turned round."""
    return jax.lax.conv_general_dilated(
        gradient, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), _turned(kernel, window), dimension_numbers=LAYOUT
    )


def _of_kernel(images: Array, kernel: Array, gradient: Array, window: _Window) -> Array:
    """The gradient by the kernel: one matrix product, with all shifts of whichever has the fewer channels."""
    height, width, channels, outputs = kernel.shape
    if channels < outputs:
        (found,) = jax.linear_transpose(partial(_by_patches, images, window=window), kernel)(gradient)
        return found
    shifted = _windows(jnp.pad(gradient, ((0, 0), *_turned(kernel, window), (0, 0))), (height, width), (1, 1))
    product = images.reshape(-1, channels).T @ jnp.concatenate(shifted, axis=-1).reshape(-1, height * width * outputs)
    return product.reshape(channels, height, width, outputs)[:, ::-1, ::-1].transpose(1, 2, 0, 3)


def _turned(kernel: Array, window: _Window) -> Padding:
    """What the outputs lack, before and after, for a window at every pixel of the images."""
    (top, bottom), (left, right) = window.padding
    height, width = (side - 1 for side in kernel.shape[:2])
    return (height - top, height - bottom), (width - left, width - right)


def _by_patches(images: Array, kernel: Array, window: _Window) -> Array:
    images = jnp.pad(images, ((0, 0), *window.padding, (0, 0)))
    windows = _windows(images, kernel.shape[:2], window.strides)
    patches = jnp.stack(windows, axis=-2)  # [B, h, w, kh*kw, C]
    parts = [
        _product(inputs, outputs)
        for inputs, outputs in zip(
            jnp.split(patches, window.groups, axis=-1), jnp.split(kernel, window.groups, axis=-1), strict=True
        )
    ]
    return jnp.concatenate(parts, axis=-1)


def _product(patches: Array, kernel: Array) -> Array:
    *places, _, _ = patches.shape
    outputs = kernel.shape[-1]
    return (patches.reshape(-1, kernel.size // outputs) @ kernel.reshape(-1, outputs)).reshape(*places, outputs)


def max_pool_2x2(x: Array) -> Array:
    """Maximum over 2x2 windows with stride 2: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    return _tiles_2x2(x).max((2, 4))


def mean_pool_2x2(x: Array) -> Array:
    """Mean over 2x2 windows with stride 2: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    return _tiles_2x2(x).mean((2, 4))


def _tiles_2x2(x: Array) -> Array:
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def max_pool(x: Array, size: int, stride: int, *, padding: int = 0, ceil: bool = False) -> Array:
    """Maximum over ``size`` x ``size`` windows of [B, H, W, C], ``padding`` pixels around it never the largest.

    With ``ceil`` the last window of a row may reach over the edge, as Caffe and GoogLeNet have it, if it starts inside.
    First over rows, then over columns: as slices, since XLA's gradient of a window's maximum is a slow scatter on CPU.
    """
    pads = [(padding, _after(length, size, stride, padding, ceil)) for length in x.shape[1:3]]
    if any(sum(pair) for pair in pads):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    rows = reduce(jnp.maximum, _windows(x, (size, 1), (stride, 1)))
    return reduce(jnp.maximum, _windows(rows, (1, size), (1, stride)))


def _after(length: int, size: int, stride: int, padding: int, ceil: bool) -> int:
    """How far the last window reaches beyond the far edge."""
    if not ceil:
        return padding
    steps = -(-(length + 2 * padding - size) // stride)
    if steps * stride >= length + padding:
        steps -= 1
    return max(steps * stride + size - length - padding, 0)


def _windows(x: Array, size: Sequence[int], strides: Sequence[int]) -> list[Array]:
    """[B, H, W, C] as seen from every place of a window: size[0] * size[1] arrays [B, h, w, C], row by row."""
    batch, height, width, channels = x.shape
    spans = [(length - side) // stride * stride + 1
             for length, side, stride in zip((height, width), size, strides, strict=True)]  # fmt: skip
    return [
        jax.lax.slice(x, (0, i, j, 0), (batch, i + spans[0], j + spans[1], channels), (1, *strides, 1))
        for i in range(size[0])
        for j in range(size[1])
    ]


def _is_plain(ndim: int, options: dict[str, Any]) -> bool:
    """Channels last in images or windows, no dilation, few groups."""
    dimensions = options.get("dimension_numbers")
    last = LAYOUTS.get(ndim)
    return (
        last is not None
        and dimensions is not None
        and (tuple(dimensions) == last or dimensions == jax.lax.conv_dimension_numbers((1,) * ndim, (1,) * ndim, last))
        and set(options.get("lhs_dilation") or (1,)) == {1}
        and set(options.get("rhs_dilation") or (1,)) == {1}
        and options.get("feature_group_count", 1) <= FEW_GROUPS
        and options.get("batch_group_count", 1) == 1
    )
