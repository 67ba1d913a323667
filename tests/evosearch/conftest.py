"""A small network with random weights, its groups and ranks, and calibration data: made once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune.types import Batch, Group, Net, Slot

SIZES = (6 * 12 + 12, 12 * 8 + 8, 8 * 4 + 4)


class Problem(NamedTuple):
    """What the objectives are made of; ``seed`` gives other weights and data of the same shapes."""

    net: Net
    groups: tuple[Group, ...]
    ranks: tuple[np.ndarray, ...]
    batch: Batch


def apply(params: Any, state: Any, x: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
    for name in ("one", "two", "three"):
        x = x @ params[name]["kernel"] + params[name]["bias"]
        x = x if name == "three" else jax.nn.relu(x)
    return x, state


def rebuild(params: Any, state: Any) -> Any:
    return params, state


def squared(outputs: Any, batch: Batch) -> Any:
    return jnp.sum((outputs - batch.y) ** 2, axis=-1)


def close(outputs: Any, batch: Batch) -> Any:
    return (jnp.sum((outputs - batch.y) ** 2, axis=-1) < 40.0).astype(jnp.float32)


def make_problem(seed: int, examples: int = 70) -> Problem:
    rng = np.random.default_rng(seed)
    widths, names = (6, 12, 8, 4), ("one", "two", "three")
    params, groups, ranks = {}, [], []
    for name, inputs, outputs in zip(names, widths, widths[1:], strict=False):
        kernel = rng.normal(size=(inputs, outputs)).astype(np.float32)
        bias = rng.normal(size=outputs).astype(np.float32)
        params[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        slots = (Slot(f"{name}/kernel"), Slot(f"{name}/bias", starts=(kernel.size,)))
        groups.append(Group(name, kernel.size + outputs, slots))
        flat = np.abs(np.concatenate([kernel.ravel(), bias]))
        ranks.append(np.argsort(np.argsort(flat)).astype(np.int32))
    x = rng.normal(size=(examples, 6)).astype(np.float32)
    y = np.asarray(apply(params, {}, x, train=False, key=None)[0])
    return Problem(Net(params, {}, apply, rebuild), tuple(groups), tuple(ranks), Batch(x, y))


@pytest.fixture(scope="session")
def problem() -> Problem:
    return make_problem(0)


@pytest.fixture(scope="session")
def make() -> Any:
    return make_problem


@pytest.fixture(scope="session")
def loss() -> Any:
    return squared


@pytest.fixture(scope="session")
def metric() -> Any:
    return close


def numpy_means(problem: Problem, kept: Any) -> tuple[float, float]:
    """An independent oracle in NumPy float64: sort, cut, multiply."""
    x = np.asarray(problem.batch.x, np.float64)
    for name, count in zip(("one", "two", "three"), kept, strict=True):
        kernel = np.asarray(problem.net.params[name]["kernel"], np.float64)
        flat = np.concatenate([kernel.ravel(), np.asarray(problem.net.params[name]["bias"], np.float64)])
        flat[np.argsort(np.abs(flat))[: flat.size - count]] = 0
        x = x @ flat[: kernel.size].reshape(kernel.shape) + flat[kernel.size :]
        x = x if name == "three" else np.maximum(x, 0)
    error = ((x - np.asarray(problem.batch.y, np.float64)) ** 2).sum(-1)
    return float(error.mean()), float((error < 40).mean())


@pytest.fixture(scope="session")
def oracle() -> Any:
    return numpy_means
