"""What the allocations that evolution is compared with keep and lose at a round's budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune import evosearch
from jax_prune.evosearch import MaskedLoss
from jax_prune.evosearch.evaluation import decoded
from jax_prune.pruning import allocations, scores
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.budgets import Cost, spent
from jax_prune.types import Array

if TYPE_CHECKING:
    from jax_prune.rounds import Question

Way = Callable[[int], np.ndarray]  # a number of entries -> counts int64 [G]
HALVINGS = 12  # of the ratio between the fewest and the most entries: they are then as many as the budget needs, nearly


def unsearched(question: Question, budget: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Counts of those allocations among ``names`` that need no search.

    They are made for a number of entries. Under another cost, or in whole steps, they give the proportions at about
    the number that the budget pays for, and are projected onto it as every searched vector is.
    """
    net, groups, sizes = question.net, question.groups, grouping.sizes(question.groups)
    lower, upper = evosearch.objectives.kept_range(groups, question.bounds)
    lower = np.maximum(lower, 1)

    ways: dict[str, Way] = {
        "uniform": lambda entries: allocations.uniform(lower, upper, sizes, entries),
        "erk": lambda entries: allocations.erk(net.params, groups, lower, upper, entries),
        "lamp": lambda entries: allocations.lamp(net.params, groups, lower, upper, entries),
        "global": lambda entries: allocations.global_magnitude(
            scores.magnitude(net.params, groups), lower, upper, entries
        ),
        "score": lambda entries: allocations.global_magnitude(question.scores, lower, upper, entries),
    }
    if question.swept is not None:
        ratios, loss = question.swept
        ways["greedy"] = lambda entries: allocations.greedy(ratios, loss, lower, upper, sizes, entries)
    wanted = {name: way for name, way in ways.items() if name in names}
    if question.cost is None or not wanted:
        return {name: way(budget) for name, way in wanted.items()}
    fitness = evosearch.budget_loss(question.masked, budget, question.bounds, question.cost)
    ends = int(lower.sum()), int(upper.sum())
    found = [_affordable(way, question.cost, budget, *ends) for way in wanted.values()]
    genomes = jnp.asarray(np.stack([evosearch.genome_of(kept, groups) for kept in found]))
    return dict(zip(wanted, np.asarray(decoded(fitness, genomes), np.int64), strict=True))


def _affordable(way: Way, cost: Cost, budget: int, fewest: int, most: int) -> np.ndarray:
    """The allocation with about as many entries as the budget pays for."""
    if spent(cost, way(most)) <= budget:
        return way(most)
    for _ in range(HALVINGS):
        middle = int(np.sqrt(fewest) * np.sqrt(most))
        if spent(cost, way(middle)) <= budget:
            fewest = middle
        else:
            most = middle
    return way(fewest)


class Judged(NamedTuple):
    """Mean losses by allocation, and the names of those that leave no path from input to output."""

    losses: dict[str, float]
    collapsed: list[str]

    @property
    def order(self) -> list[str]:
        """Whose loss is the lowest first, those that leave no path last."""
        return sorted(
            self.losses, key=lambda name: (name in self.collapsed, np.nan_to_num(self.losses[name], nan=np.inf))
        )


def judged(masked: MaskedLoss, found: dict[str, np.ndarray]) -> Judged:
    """What allocations [G] lose on the calibration data."""
    said = {name: jax.device_get(_judged(masked, jnp.asarray(kept, jnp.int32))) for name, kept in found.items()}
    return Judged(
        {name: float(loss) for name, (loss, _) in said.items()}, [name for name, (_, dead) in said.items() if dead]
    )


@jax.jit
def _judged(masked: MaskedLoss, kept: Array) -> tuple[Array, Array]:
    """One allocation: the same program however many there are."""
    sums = masked.sums(kept)
    return sums.loss / masked.examples, masked.collapsed(sums, masked.chunk_count)
