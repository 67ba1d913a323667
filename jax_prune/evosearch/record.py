"""What a search saw, generation by generation, on the host: filled in look by look."""

from __future__ import annotations

import math
import mmap
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_prune.evosearch.score import Score
from jax_prune.types import Array


class Info(NamedTuple):
    """What a reader wants of a generation; ``search`` stacks them: leading axis [T], ``config.sizes``, NumPy arrays."""

    vectors: Array  # [P, G] as proposed
    evaluated: Array  # bool [P]: one of the candidates; False where a slot was out of use and all else means nothing
    score: Score  # [P] of those vectors; not exact: a lower bound, in duels what is expected; +inf: NaN, or not run
    accepted: Array  # bool [P]: took its parent's place
    best_score: Score  # scalars: the best so far, this generation included
    exact: Array  # bool [P]: the score is the score; False where a trial was certain to lose before its end, or not run
    work: Array  # float32 [P]: share of a whole evaluation that was done; 0 where the counts were seen before
    share: Array  # float32: of the data, that this generation is judged by; scores compare where it is the same


class Look(NamedTuple):
    """What the host sees at once: the Info of some generations [t, S, ...], of the ``slots`` int32 [S] of all P."""

    info: Info
    slots: Array

    def first(self, generations: int) -> Look:
        """At most so many generations of it, as NumPy arrays."""
        info, slots = jax.device_get(self)
        return Look(jax.tree.map(lambda leaf: leaf[:generations], info), slots)


LIKE = Look(Info(0, 0, Score(0, 0), 0, Score(0, 0), 0, 0, 0), 0)  # type: ignore[arg-type]  # its structure


class Record:
    """The ``info`` of T generations of P slots with vectors [G], of which the first ``generations`` are known.

    Of looks that have not all slots only what was evaluated is written: the rest reads 0, and costs no memory where
    slots are ``dropped``.
    """

    def __init__(self, total: int, population: int, length: int, dropped: bool):
        each, one = (total, population), (total,)
        self.generations = 0
        self.info = Info(
            vectors=_untouched((*each, length)) if dropped else _filled((*each, length), np.float32),
            evaluated=_filled(each, np.bool_),
            score=_unknown(each),
            accepted=_filled(each, np.bool_),
            best_score=_unknown(one),
            exact=_filled(each, np.bool_),
            work=_filled(each, np.float32),
            share=_filled(one, np.float32),
        )

    def add(self, look: Look) -> None:
        """The generations of the next look."""
        begin, end = self.generations, self.generations + len(look.info.vectors)

        at, of = np.nonzero(look.info.evaluated)
        slots = look.slots[of]

        def put(whole: np.ndarray, part: np.ndarray) -> None:
            if whole.ndim == 1 or len(look.slots) == whole.shape[1]:
                whole[begin:end] = part
            else:
                whole[begin + at, slots] = part[at, of]

        jax.tree.map(put, self.info, look.info)
        self.generations = end


def _untouched(shape: tuple[int, ...]) -> Any:
    """Zeros float32 whose pages exist once they are written to: NumPy asks for huge ones, which rows soon fill."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, 4 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


def _filled(shape: tuple[int, ...], kind: type) -> Any:
    return np.zeros(shape, kind)


def _unknown(shape: tuple[int, ...]) -> Score:
    return Score(*(_filled(shape, np.float32) + np.inf for _ in range(2)))
