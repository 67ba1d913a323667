"""What the allocations that evolution is compared with keep and lose at a round's budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import evosearch
from jax_prune.evosearch import MaskedLoss
from jax_prune.pruning import allocations, scores
from jax_prune.pruning import groups as grouping
from jax_prune.types import Array

if TYPE_CHECKING:
    from jax_prune.rounds import Question


def unsearched(question: Question, budget: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Counts of those allocations among ``names`` that need no search."""
    net, groups, sizes = question.net, question.groups, grouping.sizes(question.groups)
    lower, upper = evosearch.objectives.kept_range(question.masked.sizes, question.bounds)
    lower = np.maximum(lower, 1)

    ways: dict[str, Callable[[], np.ndarray]] = {
        "uniform": lambda: allocations.uniform(lower, upper, sizes, budget),
        "erk": lambda: allocations.erk(net.params, groups, lower, upper, budget),
        "lamp": lambda: allocations.lamp(net.params, groups, lower, upper, budget),
        "global": lambda: allocations.global_magnitude(scores.magnitude(net.params, groups), lower, upper, budget),
        "score": lambda: allocations.global_magnitude(question.scores, lower, upper, budget),
    }
    return {name: way() for name, way in ways.items() if name in names}


def losses(masked: MaskedLoss, found: dict[str, np.ndarray]) -> dict[str, float]:
    means = _means(masked, jnp.asarray(np.stack(list(found.values())), jnp.int32))
    return {name: float(loss) for name, loss in zip(found, means.loss, strict=True)}


@jax.jit
def _means(masked: MaskedLoss, kept: Array) -> evosearch.Means:
    return evosearch.lift(masked, kept, 1)
