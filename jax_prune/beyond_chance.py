"""Which of several allocations is kept: one that loses less than what is known, on examples of its own, beyond chance.

All lose on the same examples, so differences are tested in pairs: z is their mean over its standard error. A search's
best of hundreds is the luckiest on the examples that it searched, by a little; on others it has no luck. Hence those
must be examples that nothing was chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.evosearch import MaskedLoss
from jax_prune.types import Array

FOUND = "search"
BEYOND = 3.0  # standard errors; chance alone exceeds them once in 740 times


class Verdict(NamedTuple):
    """Which allocation is ``kept``, mean losses of all, and by how many standard errors each is below ``against``."""

    kept: str
    against: str  # the best of those known
    losses: dict[str, float]
    z: dict[str, float]
    examples: int


def judged(masked: MaskedLoss, known: Mapping[str, np.ndarray], found: np.ndarray) -> Verdict:
    """Of the counts [G] ``known``, the first of them preferred, and of those ``found``, on the examples of ``masked``.

    The best known is the first, or the one with the least loss where that is below the first's beyond chance. What was
    found is kept where it is below the best known beyond chance. Who leaves no path to the output, or no finite loss,
    is out.
    """
    examples = int(masked.examples)
    counts = {**known, FOUND: found}
    said = {name: jax.device_get(_judged(masked, jnp.asarray(kept, jnp.int32))) for name, kept in counts.items()}
    losses = {name: np.asarray(each[:examples], np.float64) for name, (each, _) in said.items()}
    alive = [name for name, (_, dead) in said.items() if not dead and np.isfinite(losses[name]).all()]
    against = least([name for name in known if name in alive] or list(known)[:1], losses)
    kept = FOUND if alive == [FOUND] else least([against, *(name for name in alive if name == FOUND)], losses)
    z = {name: standard_errors(own, losses[against]) for name, own in losses.items()}
    return Verdict(kept, against, {name: float(own.mean()) for name, own in losses.items()}, z, examples)


def least(names: list[str], losses: Mapping[str, np.ndarray]) -> str:
    """Whose mean of the losses [B] is the lowest, where it is below that of the first name beyond chance; else that."""
    best = min(names, key=lambda name: losses[name].mean())
    return best if standard_errors(losses[best], losses[names[0]]) > BEYOND else names[0]


def standard_errors(own: np.ndarray, other: np.ndarray) -> float:
    """By how many standard errors of their mean difference losses [B] are below others of the same examples."""
    if len(own) < 2:
        return 0.0
    mean, deviation = (other - own).mean(), (other - own).std(ddof=1)
    with np.errstate(divide="ignore"):
        return 0.0 if mean == 0 else float(mean / (deviation / np.sqrt(len(own))))


@jax.jit
def _judged(masked: MaskedLoss, kept: Array) -> tuple[Array, Array]:
    """Losses [B], and whether no path is left: the same program for every allocation."""
    return masked.each(kept).loss, masked.collapsed(masked.sums(kept), masked.chunk_count)
