"""Re-measures a packed or a compact net: counts with and without biases, per layer, and its test error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import datasets, learning, narrowing, nets, storage
from jax_prune.datasets.har import Task
from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.pruning import costs
from jax_prune.types import Net

MODELS = ("model.jaxprune", "compact.safetensors")  # of a finished run


class Measured(NamedTuple):
    """What a file turned out to hold. ``leaves``: (path, size, kept) of every parameter; ``macs`` of a compact net."""

    path: str
    net: str
    dataset: str
    leaves: tuple[tuple[str, int, int], ...]
    counted: costs.Parameters
    bytes: int
    error: float
    macs: tuple[int, int] | None = None  # of the whole net, and of this one


def measure(path: str, data_dir: str | None = None) -> Measured:
    """Loads a packed or, by its ending, a compact net, counts what is left, and measures its data set's test split.

    Raises BadInput for a file that is none, or whose parameters do not fit the net it names.
    """
    return _compact(path, data_dir) if path.endswith(".safetensors") else _packed(path, data_dir)


def model_of(workdir: Path) -> str:
    """The net that the run in ``workdir`` wrote, that of a layer-wise one where there is none."""
    return str(next((workdir / name for name in MODELS if (workdir / name).exists()), workdir / MODELS[0]))


def _packed(path: str, data_dir: str | None) -> Measured:
    held = packed.read_packed(path)
    if not {"net", "dataset"} <= set(held.spec):
        raise BadInput(
            f"{path} does not say of which net and data set it is: only nets of jax-prune layerwise and har do"
        )
    given = {name: held.spec[name] for name in ("width",) if name in held.spec}
    net = nets.build(held.spec["net"], **given, **held.spec.get("options", {}))
    _check_fit(path, net.params, held.params)
    _check_fit(path, net.state, held.state)
    params, state = (jax.tree.map(jnp.asarray, tree) for tree in (held.params, held.state))
    error = _error(net.replace(params=params, state=state), held.spec["dataset"], data_dir, held.spec.get("task"))
    masks = storage.flatten_paths(held.masks)
    leaves = tuple((name, int(mask.size), int(mask.sum())) for name, mask in masks.items())
    size = Path(path).stat().st_size
    counted = costs.parameters(held.params, held.masks)
    return Measured(path, held.spec["net"], held.spec["dataset"], leaves, counted, size, error)


def _compact(path: str, data_dir: str | None) -> Measured:
    found = narrowing.read_saved(path)
    if found.dataset is None:
        raise BadInput(f"{path} does not say on which data set it was trained: run the study again")
    error = _error(found.net, found.dataset, data_dir, found.fed.get("task"))
    before, after = (
        {name: int(np.size(leaf)) for name, leaf in storage.flatten_paths(net.params).items() if not name.endswith("/")}
        for net in (found.whole, found.net)
    )
    whole, small = (costs.parameters(net.params) for net in (found.whole, found.net))
    counted = costs.Parameters(whole.weights_total, small.weights_total, whole.all_total, small.all_total)
    macs = tuple(sum(costs.macs(net, found.example).values()) for net in (found.whole, found.net))
    leaves = tuple((name, size, after[name]) for name, size in before.items())
    name = found.made["name"]
    return Measured(path, name, found.dataset, leaves, counted, Path(path).stat().st_size, error, (macs[0], macs[1]))


def _error(net: Net, dataset: str, data_dir: str | None, task: dict[str, Any] | None) -> float:
    """On the test split; of a recognition ``task``, on its test subjects' windows."""
    splits = Task.of(task).fold(data_dir).splits if task else datasets.load(dataset, data_dir=data_dir)
    test = splits.test()
    return 1 - learning.evaluate(net, test, learning.correct)[0]


def data_dir_of(workdir: Path) -> str | None:
    """Where the run in ``workdir``, or two folders above it, had its data sets from; None for no run, or TFDS's own."""
    for folder in (workdir, *workdir.absolute().parents[:2]):
        try:
            return json.loads((folder / "config.json").read_text()).get("data_dir")
        except (OSError, ValueError, AttributeError):
            continue
    return None


def table(measured: Measured) -> str:
    """The measurement as lines of text."""
    counted = measured.counted
    macs = [f"MACs             {m[0]:>10,} => {m[1]:>9,}  {m[0] / max(m[1], 1):.2f}x" for m in [measured.macs] if m]
    rows = [f"{name:<16} {size:>10,} => {kept:>9,}  {kept / size:7.2%}" for name, size, kept in measured.leaves]
    return "\n".join(
        [
            f"{measured.path}: {measured.net} on {measured.dataset}, {measured.bytes:,} bytes",
            *rows,
            f"weights only     {counted.weights_total:>10,} => {counted.weights_kept:>9,}  "
            f"{counted.weights_total / max(counted.weights_kept, 1):.2f}x",
            f"with biases      {counted.all_total:>10,} => {counted.all_kept:>9,}  "
            f"{counted.all_total / max(counted.all_kept, 1):.2f}x",
            *macs,
            f"test error       {measured.error:.2%}",
        ]
    )


def _check_fit(path: str, expected: object, held: object) -> None:
    shapes = {name: np.shape(leaf) for name, leaf in storage.flatten_paths(expected).items()}
    found = {name: np.shape(leaf) for name, leaf in storage.flatten_paths(held).items()}
    if shapes != found:
        odd = next(name for name in sorted(shapes | found) if shapes.get(name) != found.get(name))
        raise BadInput(f"{path} does not fit the net it names: {odd} is {found.get(odd)}, not {shapes.get(odd)}")
