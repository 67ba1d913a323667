"""The sizes that Flax NNX modules keep beside their arrays, set anew from the arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx


def resize(module: nnx.Module) -> None:
    """Feature counts, gate widths, heads and blocks of every Flax layer in ``module``, changed in place.

    What a user's own module keeps of widths is its own: it has to take them from its layers or its inputs.
    """
    for _, node in nnx.iter_graph(module):
        for kind, sizes in SIZES:
            if isinstance(node, kind):
                for name, size in sizes(node).items():
                    if hasattr(node, name):
                        setattr(node, name, size)


def _linear(layer: Any) -> dict[str, Any]:
    inputs, outputs = _shape(layer.kernel)
    return {"in_features": inputs, "out_features": outputs}


def _general(layer: Any) -> dict[str, Any]:
    shape = _shape(layer.kernel)
    first = len(layer.batch_axis)
    last = first + len(layer.in_features)
    sizes = dict(zip(layer.batch_axis, shape[:first], strict=True))
    return {"batch_axis": type(layer.batch_axis)(sizes), "in_features": shape[first:last], "out_features": shape[last:]}


def _conv(layer: Any) -> dict[str, Any]:
    """A depthwise convolution has as many blocks as inputs; any other keeps its blocks."""
    shape = _shape(layer.kernel)
    *_, inputs, outputs = shape
    blocks = layer.feature_group_count
    if blocks > 1 and blocks == layer.in_features:
        blocks = outputs // (layer.out_features // blocks)
    sizes = {"in_features": inputs * blocks, "out_features": outputs, "feature_group_count": blocks}
    return sizes | {"kernel_shape": shape}


def _conv_transpose(layer: Any) -> dict[str, Any]:
    shape = _shape(layer.kernel)
    inputs, outputs = shape[-2:] if not layer.transpose_kernel else shape[:-3:-1]
    return {"in_features": inputs, "out_features": outputs, "kernel_shape": shape}


def _norm(layer: Any) -> dict[str, Any]:
    found = [getattr(layer, name, None) for name in ("mean", "scale", "bias")]
    shapes = [_shape(variable) for variable in found if variable is not None]
    return {"num_features": shapes[0][-1]} if shapes else {}


def _group_norm(layer: Any) -> dict[str, Any]:
    """Of one feature each its groups are as many as the features; any other keeps its groups."""
    sizes = _norm(layer)
    return {"num_groups": sizes["num_features"]} if sizes and layer.group_size == 1 else {}


def _embedding(layer: Any) -> dict[str, Any]:
    rows, features = _shape(layer.embedding)
    return {"num_embeddings": rows, "features": features}


def _cell(layer: Any) -> dict[str, Any]:
    inputs = _shape(layer.dense_i.kernel)[0]
    return {"in_features": inputs, "hidden_features": _shape(layer.dense_h.kernel)[0]}


def _lstm(layer: Any) -> dict[str, Any]:
    inputs, hidden = _shape(layer.ii.kernel)
    return {"in_features": inputs, "hidden_features": hidden}


def _attention(layer: Any) -> dict[str, Any]:
    inputs, heads, width = _shape(layer.query.kernel)
    other, others, _ = _shape(layer.key.kernel)
    sizes = {"in_features": inputs, "num_heads": heads, "head_dim": width, "qkv_features": heads * width}
    return sizes | {
        "in_kv_features": other,
        "num_kv_heads": others,
        "out_features": _shape(layer.out.kernel)[-1],
    }


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable[...].shape)


SIZES: list[tuple[Any, Callable[[Any], dict[str, Any]]]] = [
    (nnx.Linear, _linear),
    (nnx.LinearGeneral, _general),
    (nnx.Conv, _conv),
    (nnx.ConvTranspose, _conv_transpose),
    ((nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm), _norm),
    (nnx.GroupNorm, _group_norm),
    (nnx.Embed, _embedding),
    ((nnx.GRUCell, nnx.OptimizedLSTMCell, nnx.SimpleCell), _cell),
    (nnx.LSTMCell, _lstm),
    (nnx.MultiHeadAttention, _attention),
]
