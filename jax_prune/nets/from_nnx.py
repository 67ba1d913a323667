"""A Flax NNX module as a pure Net, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_prune.errors import BadInput
from jax_prune.types import Array, Net, Tree

Path = tuple[Any, ...]


def from_nnx(model: nnx.Module) -> Net:
    """Net of an NNX module called as ``model(x)``; the module itself is left untouched.

    ``params`` holds its nnx.Param variables, ``state`` all other variables (batch statistics, ...)
    except random streams, which restart from ``key`` at every call. Paths are attribute names
    joined by '/', such as ``ip1/kernel``. ``net.rebuild(params, state)`` gives a new module.
    """
    if not isinstance(model, nnx.Module):
        raise BadInput(f"from_nnx was given a {type(model).__name__}: give an nnx.Module (Linen: nets.from_linen)")
    graphdef, params, streams, state = nnx.split(model, nnx.Param, nnx.RngState, ...)  # type: ignore[misc]
    definition = _Definition(
        graphdef,
        params=tuple(_leaves(params)),
        state=tuple(_leaves(state)),
        stream_keys=tuple(path for path, leaf in _leaves(streams).items() if _is_key(leaf)),
        stream_counts=tuple(path for path, leaf in _leaves(streams).items() if not _is_key(leaf)),
    )
    return Net(
        params=_nested(_leaves(params)),
        state=_nested(_leaves(state)),
        apply=_Apply(definition),
        rebuild=_Rebuild(definition),
    )


@dataclasses.dataclass(frozen=True)
class _Definition:
    """What is static of a module: its graph and the paths of its variables, as NNX spells them."""

    graphdef: Any
    params: tuple[Path, ...]
    state: tuple[Path, ...]
    stream_keys: tuple[Path, ...]
    stream_counts: tuple[Path, ...]

    def merge(self, params: Tree, state: Tree, key: Array) -> Any:
        leaves = {path: _lookup(params, path) for path in self.params}
        leaves |= {path: _lookup(state, path) for path in self.state}
        leaves |= {path: jax.random.fold_in(key, i) for i, path in enumerate(self.stream_keys)}
        leaves |= {path: jnp.zeros((), jnp.uint32) for path in self.stream_counts}
        return nnx.merge(self.graphdef, nnx.State.from_flat_path(leaves), copy=True)


@dataclasses.dataclass(frozen=True)
class _Rebuild:
    definition: _Definition

    def __call__(self, params: Tree, state: Tree) -> Any:
        return self.definition.merge(params, state, jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class _Apply:
    definition: _Definition

    def __call__(self, params: Tree, state: Tree, x: Any, *, train: bool, key: Array | None) -> tuple[Any, Tree]:
        random = train and key is not None
        model = self.definition.merge(params, state, jax.random.key(0) if key is None else key)
        model.set_attributes(deterministic=not random, use_running_average=not train, raise_if_not_found=False)
        outputs = model(x)
        if not train:
            return outputs, state
        _, _, _, new_state = nnx.split(model, nnx.Param, nnx.RngState, ...)  # type: ignore[misc]
        return outputs, _nested(_leaves(new_state))


def _leaves(state: Any) -> dict[Path, Any]:
    return {path: variable[...] for path, variable in nnx.to_flat_state(state)}


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _lookup(tree: Tree, path: Path) -> Any:
    for name in path:
        tree = tree[str(name)]
    return tree


def _nested(leaves: dict[Path, Any]) -> Tree:
    tree: Tree = {}
    for path, leaf in leaves.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(str(name), {})
        node[str(path[-1])] = leaf
    return tree
