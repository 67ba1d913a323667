"""Weights that PyTorch trained, from a safetensors file or a state_dict, in a network of ours.

A layer's tensors go by torch's names: weight, bias, running_mean, running_var, behind the layer's path with dots for
slashes, or behind what the module's ``torch_name(layer)`` says. The zoo's networks say torchvision's names.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import nnx

from jax_prune import storage
from jax_prune.errors import BadInput, said
from jax_prune.nets.from_nnx import from_nnx
from jax_prune.types import Array, Net, Tree

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
COUNTER = "num_batches_tracked"  # torch's batch norms count steps; no output depends on it


def from_torch(
    net: Net | nnx.Module, source: str | os.PathLike[str] | Mapping[str, Any], *, ignore: str | None = None
) -> Net:
    """``net`` with the tensors of ``source``: a safetensors file, or arrays (CPU tensors too) by name.

    Convolutions are turned from OIHW to HWIO, dense kernels transposed; where a module's ``torch_grid(layer)`` gives
    the height and width of an image that a dense layer takes flat, its inputs go from torch's order C, H, W to H, W, C.
    A tensor whose name the regex ``ignore`` matches in full may be left over. Raises BadInput, naming the first tensor
    that is missing, of another shape or not of floats, or has no place in the net, and for a file that is not
    safetensors.
    """
    net = from_nnx(net) if isinstance(net, nnx.Module) else net
    module = net.rebuild(net.params, net.state)
    with _opened(source) as (names, read, title):
        left = {name for name in names if not name.endswith(COUNTER) and not (ignore and re.fullmatch(ignore, name))}

        def take(path: str, leaf: Any) -> Array:
            name = _name(module, path)
            if name not in names:
                raise BadInput(f"{title} has no tensor '{name}' for {path}: is it of the same architecture?")
            left.discard(name)
            return _fitted(title, name, read(name), path, leaf, _grid(module, path))

        params, state = _mapped(take, net.params), _mapped(take, net.state)
    if left:
        raise BadInput(
            f"{title} has a tensor '{min(left)}' that has no place in the net ({len(left)} such): build the same "
            "architecture, or leave it out by ignore=REGEX"
        )
    return net.replace(params=params, state=state)


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[tuple[set[str], Callable[[str], Any], str]]:
    """The tensors' names, a way to read one, and what to call the source."""
    if isinstance(source, Mapping):
        yield set(source), source.__getitem__, "the state_dict"
        return
    try:
        # Flax's arrays, since NumPy's have no bfloat16
        with safetensors.safe_open(os.fspath(source), framework="flax") as file:
            yield set(file.keys()), file.get_tensor, str(source)
    except FileNotFoundError:
        raise BadInput(f"{source} does not exist") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInput(
            f"{source} is not a safetensors file ({error}); write the state_dict with safetensors.torch.save_file"
        ) from error


def _name(module: Any, path: str) -> str:
    layer, _, leaf = path.rpartition("/")
    if leaf not in LEAVES:
        raise BadInput(f"from_torch knows no tensor for {path}: it fills {', '.join(LEAVES)}")
    of = getattr(module, "torch_name", lambda layer: layer.replace("/", "."))
    return f"{of(layer)}.{LEAVES[leaf]}" if layer else LEAVES[leaf]


def _grid(module: Any, path: str) -> tuple[int, int]:
    layer, _, _ = path.rpartition("/")
    return module.torch_grid(layer) if hasattr(module, "torch_grid") else (1, 1)


def _fitted(title: str, name: str, tensor: Any, path: str, leaf: Any, grid: tuple[int, int]) -> Array:
    """``tensor`` in our layout and type."""
    try:
        array = tensor if isinstance(tensor, jax.Array) else np.asarray(tensor)
    except (TypeError, RuntimeError) as error:
        raise BadInput(f"{title}: tensor '{name}' cannot be read ({said(error)}): give detached CPU tensors") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise BadInput(f"{title}: tensor '{name}' has type {array.dtype}, {path} takes floats: dequantize it first")
    wanted = _torch_shape(path, leaf.shape)
    if array.shape != wanted:
        raise BadInput(
            f"{title}: tensor '{name}' has shape {list(array.shape)}, {path} needs {list(wanted)}: build the net with "
            "the classes, size and width that the weights were trained with"
        )
    return jnp.array(_turned(array, path, grid), leaf.dtype)  # a copy: torch trains in place


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not path.endswith("kernel"):
        return shape
    *window, inputs, outputs = shape
    return (outputs, inputs, *window)


def _turned(array: Any, path: str, grid: tuple[int, int]) -> Any:
    if not path.endswith("kernel"):
        return array
    if array.ndim == 2:
        outputs, inputs = array.shape
        return array.reshape(outputs, -1, *grid).transpose(2, 3, 1, 0).reshape(inputs, outputs)
    return array.transpose(*range(2, array.ndim), 1, 0)


def _mapped(function: Callable[[str, Any], Array], tree: Tree) -> Tree:
    leaves = storage.flatten_paths(tree)
    return storage.unflatten_paths(
        {path: leaf if path.endswith("/") else function(path, leaf) for path, leaf in leaves.items()}
    )
