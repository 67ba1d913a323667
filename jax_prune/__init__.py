"""jax_prune finds how much every layer of a JAX/Flax network can lose.

``from jax_prune import evosearch`` and the like import a room when it is first asked for, so that
``import jax_prune`` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

ROOMS = (
    "types",
    "errors",
    "storage",
    "progress",
    "nets",
    "datasets",
    "pruning",
    "evosearch",
    "learning",
    "compress",
    "deploy",
    "report",
    "studies",
)
__all__ = ["__version__", *ROOMS]


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"jax_prune.{name}")
    raise AttributeError(f"module 'jax_prune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
