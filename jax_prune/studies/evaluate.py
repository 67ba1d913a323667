"""Re-measures a packed net: counts with and without biases, per layer, and its test error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import datasets, learning, nets, storage
from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.pruning import costs


class Measured(NamedTuple):
    """What a packed file turned out to hold. ``leaves``: (path, size, kept) of every parameter."""

    path: str
    net: str
    dataset: str
    leaves: tuple[tuple[str, int, int], ...]
    counted: costs.Parameters
    bytes: int
    error: float


def measure(path: str, data_dir: str | None = None) -> Measured:
    """Loads a packed net, counts what is not masked, and measures the test split of its data set.

    Raises BadInput for a file that is no packed net, or whose parameters do not fit the net it names.
    """
    held = packed.read_packed(path)
    if not {"net", "dataset"} <= set(held.spec):
        raise BadInput(f"{path} does not say of which net and data set it is: only nets of 'jax-prune layerwise' do")
    net = nets.build(held.spec["net"])
    _check_fit(path, net.params, held.params)
    _check_fit(path, net.state, held.state)
    params, state = (jax.tree.map(jnp.asarray, tree) for tree in (held.params, held.state))
    test = datasets.load(held.spec["dataset"], data_dir=data_dir).test()
    (accuracy,) = learning.evaluate(net.replace(params=params, state=state), test, learning.correct)
    masks = storage.flatten_paths(held.masks)
    leaves = tuple((name, int(mask.size), int(mask.sum())) for name, mask in masks.items())
    size = Path(path).stat().st_size
    counted = costs.parameters(held.params, held.masks)
    return Measured(path, held.spec["net"], held.spec["dataset"], leaves, counted, size, 1 - accuracy)


def data_dir_of(workdir: Path) -> str | None:
    """Where the run in ``workdir`` had its data sets from; None for no run, or TFDS's own folder."""
    try:
        return json.loads((workdir / "config.json").read_text()).get("data_dir")
    except (OSError, ValueError, AttributeError):
        return None


def table(measured: Measured) -> str:
    """The measurement as lines of text."""
    counted = measured.counted
    rows = [f"{name:<16} {size:>10,} => {kept:>9,}  {kept / size:7.2%}" for name, size, kept in measured.leaves]
    return "\n".join(
        [
            f"{measured.path}: {measured.net} on {measured.dataset}, {measured.bytes:,} bytes",
            *rows,
            f"weights only     {counted.weights_total:>10,} => {counted.weights_kept:>9,}  "
            f"{counted.weights_total / max(counted.weights_kept, 1):.2f}x",
            f"with biases      {counted.all_total:>10,} => {counted.all_kept:>9,}  "
            f"{counted.all_total / max(counted.all_kept, 1):.2f}x",
            f"test error       {measured.error:.2%}",
        ]
    )


def _check_fit(path: str, expected: object, held: object) -> None:
    shapes = {name: np.shape(leaf) for name, leaf in storage.flatten_paths(expected).items()}
    found = {name: np.shape(leaf) for name, leaf in storage.flatten_paths(held).items()}
    if shapes != found:
        odd = next(name for name in sorted(shapes | found) if shapes.get(name) != found.get(name))
        raise BadInput(f"{path} does not fit the net it names: {odd} is {found.get(odd)}, not {shapes.get(odd)}")
