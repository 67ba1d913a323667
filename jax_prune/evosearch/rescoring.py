"""What a search in low precision found, judged once more: the best few vectors scored by the exact fitness decide.

Rounding moves every score a little, so among the leaders of a search in bfloat16 the order is partly chance, and a
constraint that just holds may not hold in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.evosearch.evaluation import Fitness, as_pytree, decoded, evaluated
from jax_prune.evosearch.evolution import Result
from jax_prune.evosearch.racing import Summed
from jax_prune.evosearch.score import Score, index_of_best


class Rescored(NamedTuple):
    """Vectors float32 [S, G] that were scored again, best first as the search had them, and their scores [S].

    ``before`` are the search's, ``after`` the exact fitness's. ``best`` [G] has the best of ``after``, its ``score``;
    ``changed``: it is not what the search itself ended with.
    """

    vectors: np.ndarray
    before: Score
    after: Score
    best: np.ndarray
    score: Score
    changed: bool


def rescored(result: Result, fitness: Fitness, exact_fitness: Fitness, most: int = 16, *, at_once: int = 1) -> Rescored:
    """The best ``most`` of all vectors that ``result`` saw scored on all data, scored again by ``exact_fitness``.

    Feasible ones come first, and of vectors that a ``racing.Summed`` fitness takes for the same counts only one. Where
    none of them turns out feasible the next ``most`` follow, until one is or there are no more.
    """
    vectors, before = _ranked(result, fitness)
    exact_fitness = as_pytree(exact_fitness)
    scores: list[Score] = []
    for first in range(0, len(vectors), most):
        scores.append(_scores(exact_fitness, vectors[first : first + most], most, at_once))
        if (scores[-1].violation == 0).any():
            break
    after = jax.tree.map(lambda *parts: np.concatenate(parts), *scores)
    count, best = len(after.value), int(index_of_best(after))
    before, score = (
        Score(before.value[:count], before.violation[:count]),
        Score(after.value[best], after.violation[best]),
    )
    return Rescored(vectors[:count], before, after, vectors[best], score, best > 0)


def _ranked(result: Result, fitness: Fitness) -> tuple[np.ndarray, Score]:
    """Distinct vectors [S, G] with a score of their own, from the best to the worst: the search's best is the first."""
    info = result.info
    scored = np.asarray(info.exact) & np.isfinite(info.score.value) & np.isfinite(info.score.violation)
    scored &= (info.share == 1)[:, None]
    vectors = np.concatenate([result.best[None], info.vectors[scored]])
    value, violation = (
        np.concatenate([np.asarray(best)[None], part[scored]])
        for best, part in zip(result.score, info.score, strict=True)
    )
    # examples are arranged anew after the first generation, which rounds anew: the search's best leads all the same
    order = np.concatenate([[0], 1 + np.lexsort((value[1:], violation[1:]))])
    stands_for = np.asarray(decoded(fitness, jnp.asarray(vectors))) if isinstance(fitness, Summed) else vectors
    first = np.sort(np.unique(stands_for[order], axis=0, return_index=True)[1])
    chosen = order[first]
    return vectors[chosen], Score(value[chosen], violation[chosen])


def _scores(fitness: Fitness, vectors: np.ndarray, length: int, at_once: int) -> Score:
    """Scores [S] of vectors [S, G], S <= ``length``: as many are evaluated, so that one program serves."""
    filled = np.concatenate([vectors, np.repeat(vectors[:1], length - len(vectors), axis=0)])
    score = jax.device_get(evaluated(fitness, jnp.asarray(filled), at_once))
    return Score(score.value[: len(vectors)], score.violation[: len(vectors)])
