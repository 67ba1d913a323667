"""One search on many devices: bodies of candidates and chunks of examples are shared out, all do the rest alike.

    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(4, 2), sharding.AXES)
    result = search(key, config, bounds, fitness, mesh=mesh)

A body has as many candidates whatever the mesh, and chunks are added in their order on every device, so that a search
comes out the same, bit for bit, on one device and on many, in one process or in several (``jax.distributed``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_prune.errors import BadInput
from jax_prune.types import Array, Tree

AXES = ("candidates", "data")
EVERYWHERE = PartitionSpec()


@runtime_checkable
class Chunked(Protocol):
    """A dataclass, anywhere in a fitness, whose ``chunks`` have leaves [N, b, ...] that devices can hold apart.

    With a ``stride`` above 1 it has every stride-th of them, and is asked for no other.
    """

    chunks: Tree
    stride: int


class Devices(NamedTuple):
    """How many devices share out bodies (``candidates``) and chunks (``data``); static, and (1, 1) without a mesh."""

    candidates: int = 1
    data: int = 1

    def place(self) -> tuple[Any, Any]:
        """Which of them this one is, of ``candidates`` and of ``data``: int32, traced where there are several."""
        if self == Devices():
            return 0, 0
        rows, columns = AXES
        number = jax.lax.axis_index(rows) * jax.lax.psum(1, columns) + jax.lax.axis_index(columns)
        return number // self.data, number % self.data

    def turns(self, count: Array) -> Array:
        """How many of ``count`` bodies are this device's, who takes every ``candidates``-th."""
        return count if self.candidates == 1 else (count - self.place()[0] + self.candidates - 1) // self.candidates

    def gathered(self, tree: Tree) -> Tree:
        """What all devices have: leaves [...] to [candidates, data, ...], the same on each."""
        if self == Devices():
            return jax.tree.map(lambda leaf: leaf[None, None], tree)
        return jax.tree.map(
            lambda leaf: jax.lax.all_gather(leaf, AXES).reshape(self.candidates, self.data, *leaf.shape), tree
        )

    def along_data(self, tree: Tree) -> Tree:
        """What the devices that hold other chunks have: leaves [...] to [data, ...]."""
        if self.data == 1:
            return jax.tree.map(lambda leaf: leaf[None], tree)
        return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, AXES[1]), tree)

    def picked(self, tree: Tree, owner: Array) -> Tree:
        """Every entry [P] from the device of ``candidates`` that is its ``owner`` (int32 [P]): leaves [data, P]."""
        entries = jnp.arange(len(owner))
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1)[:, owner, entries], self.gathered(tree))


def all_devices() -> Mesh | None:
    """Every device there is, of all processes, along ``candidates``; None where that is one."""
    devices = np.array(jax.devices())
    return None if len(devices) == 1 else Mesh(devices.reshape(-1, 1), AXES)


def checked(mesh: Mesh) -> Mesh:
    """Raises BadInput for a mesh with other axes."""
    if mesh.axis_names != AXES:
        raise BadInput(f"mesh has the axes {mesh.axis_names}: name them {AXES}; either may be of size 1")
    return mesh


def devices_of(mesh: Mesh, has_chunks: bool) -> Devices:
    """Who shares out what: without chunks all devices share the bodies."""
    candidates, data = (mesh.shape[axis] for axis in AXES)
    return Devices(candidates, data) if has_chunks else Devices(candidates * data, 1)


def shared_out(fitness: Any, mesh: Mesh | None) -> Any:
    """The fitness on the mesh, if there is one: chunks along ``data``, as many on each device; all else everywhere.

    Device d of D has chunks d, D + d, 2 D + d, ...; where D does not divide N zeros stand in, and are never asked for.
    """
    if mesh is None:
        return fitness
    columns = mesh.shape[AXES[1]]

    def put(node: Any) -> Any:
        if not isinstance(node, Chunked):
            return everywhere(node, mesh)
        rest = everywhere(dataclasses.replace(node, chunks=None), mesh)  # type: ignore[type-var]
        return dataclasses.replace(rest, chunks=jax.tree.map(partial(_dealt, mesh), node.chunks), stride=columns)

    return jax.tree.map(put, fitness, is_leaf=_is_chunked)


def everywhere(tree: Tree, mesh: Mesh | None) -> Tree:
    """Arrays of this process, the same in all of them, on every device of the mesh, if there is one."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _placed(leaf, mesh, EVERYWHERE), tree)


def local(tree: Tree, mesh: Mesh | None) -> Tree:
    """Arrays that lie everywhere on the mesh, if there is one, on this process's own first device."""
    if mesh is None:
        return tree
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def on_all(function: Callable[..., Tree], mesh: Mesh, *arguments: Tree) -> Tree:
    """``function`` run by every device of the mesh on its own part; the results are the same on all."""

    def spec(node: Any) -> Any:
        parted = jax.tree.map(lambda _: EVERYWHERE, node)
        if not _is_chunked(node):
            return parted
        return dataclasses.replace(parted, chunks=jax.tree.map(lambda _: PartitionSpec(AXES[1]), node.chunks))

    specs = jax.tree.map(spec, arguments, is_leaf=_is_chunked)
    return _shard_map(function, mesh, specs)(*arguments)


def _shard_map(function: Callable[..., Tree], mesh: Mesh, specs: Tree) -> Callable[..., Tree]:
    # JAX cannot see that what was gathered is the same everywhere
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=EVERYWHERE, check_vma=False)
    from jax.experimental.shard_map import shard_map  # JAX below 0.7

    return shard_map(function, mesh=mesh, in_specs=specs, out_specs=EVERYWHERE, check_rep=False)


def _dealt(mesh: Mesh, leaf: Array) -> Array:
    """A leaf [N, ...] dealt out chunk by chunk to the devices along ``data``."""
    chunks, columns = np.asarray(leaf), mesh.shape[AXES[1]]
    rows = -(-len(chunks) // columns)
    padded = np.concatenate([chunks, np.zeros((rows * columns - len(chunks), *chunks.shape[1:]), chunks.dtype)])
    by_device = np.swapaxes(padded.reshape(rows, columns, *chunks.shape[1:]), 0, 1)
    return _placed(by_device.reshape(padded.shape), mesh, PartitionSpec(AXES[1]))


def _is_chunked(node: Any) -> bool:
    return isinstance(node, Chunked)


def _placed(leaf: Any, mesh: Mesh, spec: PartitionSpec) -> Array:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(leaf), mesh, spec)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda index: array[index])
