"""What early decisions cost: every trial that a search dropped is evaluated whole afterwards, against its parent."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.evosearch import examples
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.evaluation import Fitness, as_pytree
from jax_prune.evosearch.racing import race
from jax_prune.evosearch.record import Info
from jax_prune.evosearch.score import Score, better, finite, worst
from jax_prune.types import Array


class Audit(NamedTuple):
    """Of a search's trials how many were ``dropped`` before their end, and ``accepted`` in their parent's place.

    ``differed``: dropped ones that are at least as good as their parent, on the data that both were judged by.
    ``confidence`` is the stated one of a paired race; an exact one states 1.
    """

    dropped: int
    accepted: int
    differed: int
    confidence: float

    @property
    def rate(self) -> float:
        """The share of what is at least as good as its parent that was dropped; to be at most 1 - ``confidence``."""
        return self.differed / max(self.differed + self.accepted, 1)


def audit(key: Array, config: Config, fitness: Fitness, info: Info) -> Audit:
    """What the search of this ``key``, ``config`` and ``fitness`` would have decided by whole evaluations.

    ``info`` is its own. Every decision is looked at by itself: parents are those that the search had. Takes ``dropped``
    evaluations, on one device, and compiles a program for each share of the data.
    """
    init_key, _ = jax.random.split(key)
    fitness = examples.ordered(init_key, config, as_pytree(fitness))
    starts, rows = config.starts, len(info.vectors)
    differed = sum(_differed(config, fitness, info, *span) for span in zip(starts, (*starts[1:], rows), strict=True))
    trials = np.isin(np.arange(rows), starts, invert=True)
    accepted = int(info.accepted[trials].sum())
    confidence = config.confidence if config.race == "paired" else 1.0
    return Audit(int(_dropped(info).sum()), accepted, differed, confidence)


def _dropped(info: Info) -> np.ndarray:
    """Which candidates were given up before their end: bool [T, P]."""
    return np.asarray(info.evaluated & ~info.exact)


def _differed(config: Config, fitness: Fitness, info: Info, first: int, end: int) -> int:
    """How many of the trials dropped in rows ``first`` to ``end`` - 1, all of one share, would have won."""
    dropped, count = _dropped(info), 0
    if not dropped[first:end].any():
        return 0
    judged = examples.at(config, fitness, first + 1, info)
    parents = worst(config.population)
    for row in range(first, end):
        score = Score(*(part[row] for part in info.score))
        if dropped[row].any():
            whole = _whole(judged, jnp.asarray(info.vectors[row]), jnp.asarray(dropped[row]), config.at_once)
            count += int((dropped[row] & finite(whole) & better(whole, parents)).sum())
        parents = jax.tree.map(partial(jnp.where, info.accepted[row]), score, parents)
    return count


@partial(jax.jit, static_argnames="at_once")
def _whole(fitness: Fitness, vectors: Array, asked: Array, at_once: int) -> Score:
    """Scores [P] of those vectors [P, G] that are ``asked``, evaluated as a search does."""
    return race(fitness, vectors, worst(len(vectors)), asked, at_once).score
