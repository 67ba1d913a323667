"""The packed net: one file with kept weights alone, that loads back exactly.

Layout: magic, version, SHA-256 of the rest; then a zstd frame that holds a safetensors payload: for every leaf
its positions (bitmask or delta-coded, whichever is smaller by ``pruning.costs``) and its kept float32 values.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import zstandard

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.pruning import costs
from jax_prune.types import Masks, Tree

MAGIC = b"JAXPRUNE"
VERSION = 1
HEADER = struct.Struct("<8sI32s")
LARGEST = 4 * 2**30  # bytes of payload that a reader is willing to allocate
LEVEL = 19


class PackedNet(NamedTuple):
    """What a packed file holds; pruned entries of ``params`` are zero, ``masks`` says which they are."""

    spec: dict[str, Any]  # how to build the net: {"net": name or package.module:factory, ...}
    params: Tree
    state: Tree
    masks: Masks
    meta: dict[str, Any]


def write_packed(
    path: str | os.PathLike[str],
    spec: dict[str, Any],
    params: Tree,
    state: Tree,
    masks: Masks,
    meta: dict[str, Any],
) -> int:
    """Writes a packed net atomically; gives its size in bytes. Every leaf keeps its dtype."""
    arrays: dict[str, np.ndarray] = {}
    leaves: dict[str, Any] = {}
    flags = storage.flatten_paths(masks)
    for name, leaf in sorted(storage.flatten_paths(params).items()):  # the same bytes whatever the dicts' order
        leaf = np.asarray(leaf)
        mask = np.broadcast_to(np.asarray(flags[name], bool), leaf.shape) if leaf.size else np.ones(leaf.shape, bool)
        encoding = costs.packed_size(mask).encoding
        leaves[name] = {"shape": list(leaf.shape), "encoding": encoding, "kept": int(mask.sum())}
        arrays[f"values:{name}"] = leaf[mask] if encoding != "dense" else leaf.reshape(-1)
        if not mask.all() or encoding != "dense":
            arrays[f"where:{name}"] = _positions(mask.reshape(-1), encoding)
    for name, leaf in sorted(storage.flatten_paths(state).items()):
        arrays[f"state:{name}"] = np.asarray(leaf)
    # one entry: safetensors writes several in any order, and equal nets shall be equal files
    header = {"header": json.dumps({"spec": spec, "meta": meta, "leaves": leaves}, sort_keys=True)}
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    frame = zstandard.ZstdCompressor(level=LEVEL).compress(safetensors.numpy.save(arrays, metadata=header))
    data = HEADER.pack(MAGIC, VERSION, hashlib.sha256(frame).digest()) + frame
    storage.write_bytes(path, data)
    return len(data)


def read_packed(path: str | os.PathLike[str]) -> PackedNet:
    """The net that ``write_packed`` wrote, exactly. Raises BadInput for a truncated, altered or foreign file."""
    payload = _payload(Path(path))
    arrays, header = _tensors(payload, path)
    leaves = header["leaves"]
    params, masks = {}, {}
    for name, facts in leaves.items():
        shape = tuple(facts["shape"])
        mask = _mask(arrays.get(f"where:{name}"), facts["encoding"], int(np.prod(shape)), facts["kept"])
        values = arrays[f"values:{name}"]
        full = np.zeros(mask.size, values.dtype)
        full[mask if facts["encoding"] != "dense" else slice(None)] = values
        params[name] = full.reshape(shape)
        masks[name] = mask.reshape(shape)
    state = {name.removeprefix("state:"): array for name, array in arrays.items() if name.startswith("state:")}
    return PackedNet(
        header["spec"],
        storage.unflatten_paths(params),
        storage.unflatten_paths(state),
        storage.unflatten_paths(masks),
        header["meta"],
    )


def _payload(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; give the model.jaxprune of a finished run") from error
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise BadInput(f"{path} is not a packed net; give the model.jaxprune of a finished run")
    _, version, digest = HEADER.unpack_from(data)
    frame = data[HEADER.size :]
    if version != VERSION:
        raise BadInput(f"{path} is a packed net of version {version}, this package reads {VERSION}; update it")
    if hashlib.sha256(frame).digest() != digest:
        raise BadInput(f"{path} is truncated or altered: its digest does not match; export it again")
    size = zstandard.frame_content_size(frame)
    if not 0 <= size <= LARGEST:
        raise BadInput(f"{path} declares {size} bytes of payload, more than {LARGEST}; it is no packed net of ours")
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)


def _tensors(payload: bytes, path: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        length = int.from_bytes(payload[:8], "little")
        header = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["header"])
        return safetensors.numpy.load(payload), header
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BadInput(f"{path} holds no readable payload ({error}); export it again") from error


def _positions(mask: np.ndarray, encoding: str) -> np.ndarray:
    if encoding in ("bitmask", "dense"):
        return np.packbits(mask)
    bits = 8 if encoding == "delta8" else 4
    digits = _digits(costs.gaps(mask), 2**bits - 1)
    if bits == 8:
        return digits
    digits = np.append(digits, np.zeros(len(digits) % 2, np.uint8))
    return (digits[::2] << 4) | digits[1::2]


def _digits(gaps: np.ndarray, most: int) -> np.ndarray:
    """Each gap as ``gap // most`` digits of ``most`` and one of the remainder: uint8."""
    ends = np.cumsum(gaps // most + 1)
    digits = np.full(int(ends[-1]) if len(ends) else 0, most, np.uint8)
    digits[ends - 1] = gaps % most
    return digits


def _mask(stored: np.ndarray | None, encoding: str, size: int, kept: int) -> np.ndarray:
    if stored is None:
        return np.ones(size, bool)
    if encoding in ("bitmask", "dense"):
        return np.unpackbits(stored, count=size).astype(bool)
    most = 255 if encoding == "delta8" else 15
    digits = stored if most == 255 else np.stack([stored >> 4, stored & 15], 1).reshape(-1)
    ends = np.flatnonzero(digits != most)[:kept]
    totals = np.cumsum(digits.astype(np.int64))
    mask = np.zeros(size, bool)
    # digits up to an entry's end sum to the gaps so far; each kept entry before it adds one place
    mask[totals[ends] + np.arange(len(ends))] = True
    return mask
