"""What finished networks get wrong: the one reader of the test split, once a run."""

from __future__ import annotations

from typing import Any

from jax_prune import datasets, learning
from jax_prune.stages import Stage
from jax_prune.types import Batch, Net


def measure(candidates: dict[str, Net], splits: datasets.Splits, test_too: bool) -> Stage:
    """Validation and test errors of finished nets: the only reader of the test split, and once a run."""
    test = splits.test() if test_too else None

    def error(net: Net, batch: Batch) -> float:
        return 1 - learning.evaluate(net, batch, learning.correct)[0]

    facts: dict[str, Any] = {
        name: {"validation": error(net, splits.validation), "test": None if test is None else error(net, test)}
        for name, net in candidates.items()
    }
    return Stage({}, facts)
