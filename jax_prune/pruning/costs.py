"""What a network costs: parameters, multiply-accumulates and packed bytes, in exact integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.typing import ArrayLike

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.pruning import wide
from jax_prune.pruning.wide import Wide
from jax_prune.types import Masks, Net, Tree

ACTIVATIONS = "(activations)"  # products of two activations, as in attention
SHAPE_ONLY = {
    "reshape",
    "transpose",
    "convert_element_type",
    "slice",
    "split",
    "dynamic_slice",
    "squeeze",
    "expand_dims",
    "broadcast_in_dim",
    "copy",
    "rev",
    "reduce_precision",
}
FLOAT_BYTES = 4


class Parameters(NamedTuple):
    """Counts with and without what has fewer than two axes: biases and norm scales."""

    weights_total: int
    weights_kept: int
    all_total: int
    all_kept: int


def parameters(params: Tree, masks: Masks | None = None) -> Parameters:
    """Totals and kept entries; every unmasked bias counts, whether its unit is alive or not."""
    leaves = storage.flatten_paths(params)
    flags = storage.flatten_paths(masks) if masks is not None else {}
    counts = np.zeros(4, np.int64)
    for path, leaf in leaves.items():
        if path.endswith("/"):
            continue
        size, kept = int(np.size(leaf)), _kept(flags.get(path), np.shape(leaf))
        counts += [size * (np.ndim(leaf) >= 2), kept * (np.ndim(leaf) >= 2), size, kept]
    return Parameters(*map(int, counts))


def macs(net: Net, example: Any) -> dict[str, int]:
    """Multiply-accumulates an example of every weight leaf in the forward pass, by path; ``example`` has B = 1.

    Read from the jaxpr: dot_general and conv_general_dilated (padding counted as data), wherever they stand;
    a scan's body counts as often as it runs, a cond's dearest branch counts. Products of two activations stand
    under ``ACTIVATIONS``. Raises BadInput for a while loop, whose length is not known.
    """
    batch = {leaf.shape[0] for leaf in jax.tree.leaves(example)}
    if batch != {1}:
        raise BadInput(f"the example has leading lengths {sorted(batch)}: give one example, with leading axis 1")

    def forward(params: Tree, state: Tree, x: Any) -> Any:
        return net.apply(params, state, x, train=False, key=None)[0]

    jaxpr = jax.make_jaxpr(forward)(net.params, net.state, example)
    paths = [path for path in storage.flatten_paths(storage.sorted_tree(net.params)) if not path.endswith("/")]
    origins = [*paths, *[None] * (len(jaxpr.jaxpr.invars) - len(paths))]
    totals: dict[str, int] = {}
    _count(jaxpr.jaxpr, origins, 1, totals)
    return totals


def kept_macs(net: Net, masks: Masks, example: Any) -> int:
    """Products an example of the kept weights alone, plus those of activations.

    What hardware that skips zeros would do; dense hardware does every product of ``macs``.
    """
    return kept_products(macs(net, example), net.params, masks)


def kept_products(products: Mapping[str, int], params: Tree, masks: Masks) -> int:
    """``kept_macs`` where the dense net's ``macs`` are known already: ``products`` by path."""
    leaves, flags = storage.flatten_paths(params), storage.flatten_paths(masks)
    total = 0
    for path, count in products.items():
        if path == ACTIVATIONS:
            total += count
            continue
        shape = np.shape(leaves[path])
        total += count * _kept(flags[path], shape) // math.prod(shape)
    return total


class Packed(NamedTuple):
    """How one leaf is stored, and in how many bytes."""

    encoding: str
    bytes: int


def packed_size(mask: np.ndarray) -> Packed:
    """The smallest encoding of a leaf with this mask, exactly: positions and float32 values, before compression.

    dense: all values. bitmask: a bit an entry. delta8, delta4: gaps between kept entries in bytes or
    nibbles, base 255 or 15, an all-ones digit meaning that the gap goes on.
    """
    mask = np.asarray(mask, bool).reshape(-1)
    values = FLOAT_BYTES * int(mask.sum())
    options = {"dense": FLOAT_BYTES * mask.size, "bitmask": -(-mask.size // 8) + values}
    options |= {name: _delta_bytes(mask, bits) + values for name, bits in (("delta8", 8), ("delta4", 4))}
    name = min(options, key=lambda option: options[option])
    return Packed(name, options[name])


def packed_total(params: Tree, masks: Masks) -> int:
    """Bytes of all leaves as ``packed_size`` has them."""
    flags = storage.flatten_paths(masks)
    leaves = {path: leaf for path, leaf in storage.flatten_paths(params).items() if not path.endswith("/")}
    return sum(packed_size(np.broadcast_to(flags[path], np.shape(leaf))).bytes for path, leaf in leaves.items())


def packed_bound(size: int, kept: ArrayLike) -> Wide:
    """At most so many bytes for a leaf of ``size`` entries of which ``kept`` stay, wherever they are; traceable.

    Exact for any size below 2**31, as two limbs.
    """
    units = jnp.asarray(kept).astype(jnp.uint32)
    delta8 = units + size // 255
    delta4 = (units + (size // 15 + 1)) // 2
    positions = jnp.minimum(jnp.minimum(delta8, delta4), -(-size // 8))
    some = wide.add(wide.product(FLOAT_BYTES, units), Wide(jnp.zeros_like(positions), positions))
    return wide.minimum(some, wide.product(FLOAT_BYTES, jnp.uint32(size)))


def gaps(mask: np.ndarray) -> np.ndarray:
    """Distance of every kept entry from the one before, less one: int64 [kept]; the first from position -1."""
    return np.diff(np.flatnonzero(mask), prepend=-1) - 1


def _delta_bytes(mask: np.ndarray, bits: int) -> int:
    digits = int((gaps(mask) // (2**bits - 1) + 1).sum())
    return -(-digits * bits // 8)


def _kept(mask: Any, shape: tuple[int, ...]) -> int:
    if mask is None:
        return math.prod(shape)
    return int(np.broadcast_to(np.asarray(mask), shape).sum())


def _count(jaxpr: Any, origins: list[str | None], times: int, totals: dict[str, int]) -> list[str | None]:
    """Adds a jaxpr's products to ``totals``; ``origins`` say which weight leaf each input is. Gives the outputs'."""
    known: dict[Any, str | None] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(atom: Any) -> str | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        sources = [origin(atom) for atom in equation.invars]
        name = equation.primitive.name
        results: list[str | None] = [None] * len(equation.outvars)
        if name in ("dot_general", "conv_general_dilated"):
            leaf = sources[1] or sources[0] or ACTIVATIONS
            totals[leaf] = totals.get(leaf, 0) + times * _products(equation)
        elif name in SHAPE_ONLY:
            results = [sources[0]] * len(equation.outvars)
        elif name in ("mul", "select_n"):  # a masked weight is still that weight
            named = {source for source in sources if source}
            results = [named.pop() if len(named) == 1 and _same_shape(equation) else None]
        elif name == "while":
            raise BadInput("the network holds a while loop, so its multiply-accumulates cannot be counted; use scan")
        elif name == "cond":
            results = _dearest_branch(equation, sources[1:], times, totals)
        elif (body := _body(equation)) is not None:
            length = equation.params["length"] if name == "scan" else 1
            results = _count(body, sources[len(sources) - len(body.invars) :], times * length, totals)
        known.update(zip(equation.outvars, results, strict=True))
    return [origin(atom) for atom in jaxpr.outvars]


def _products(equation: Any) -> int:
    left, right = (atom.aval for atom in equation.invars[:2])
    output = equation.outvars[0].aval
    if equation.primitive.name == "dot_general":
        ((contracted, _), _) = equation.params["dimension_numbers"]
        return math.prod(output.shape) * math.prod(left.shape[axis] for axis in contracted)
    out_features = right.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(output.shape) * (math.prod(right.shape) // out_features)


def _dearest_branch(equation: Any, sources: list[str | None], times: int, totals: dict[str, int]) -> list[str | None]:
    counted = []
    for branch in equation.params["branches"]:
        inner: dict[str, int] = {}
        counted.append((inner, _count(branch.jaxpr, sources, times, inner)))
    inner, results = max(counted, key=lambda pair: sum(pair[0].values()))
    for path, count in inner.items():
        totals[path] = totals.get(path, 0) + count
    return results


def _body(equation: Any) -> Any:
    """The jaxpr that a call-like equation runs: jit, custom derivatives, remat, scan."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in equation.params:
            inner = equation.params[name]
            return getattr(inner, "jaxpr", inner)
    return None


def _same_shape(equation: Any) -> bool:
    return len({atom.aval.shape for atom in equation.invars if not isinstance(atom, Literal) and atom.aval.shape}) == 1
