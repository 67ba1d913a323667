"""Successive fidelity: early generations are judged on part of the data, later ones on more, the last ones on all.

After successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016), which gives the better half of
its arms twice the data; here the population stays as large and evolves in between, and shares and equal parts of the
generations are ours. Whenever the share grows the population is scored anew, so that scores of different shares
never meet. Chunks come in random order, and a larger share holds the smaller ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jax_prune.errors import BadInput

WHOLE = (1.0,)
ROUNDING = 1e-9  # a share of 0.7 of 10 chunks is 7 of them


def checked(shares: Sequence[float], generations: int) -> None:
    """Raises BadInput for shares that do not grow to 1, or are more than ``generations``, the initial one included."""
    grows = all(left < right for left, right in zip(shares, shares[1:], strict=False))
    if not shares or not grows or shares[0] <= 0 or shares[-1] != 1:
        raise BadInput(f"fidelity is {tuple(shares)}: give shares of the data that grow from above 0 to 1.0, the last")
    if len(shares) > generations:
        raise BadInput(f"fidelity has {len(shares)} shares for {generations} generations: give at most one for each")


def starts(shares: int, generations: int) -> tuple[int, ...]:
    """At which rows of a search the population itself is scored, a share each: the first, and where the share grows.

    ``generations``, the initial one included, are split evenly; each further share takes a row more.
    """
    return tuple(part * generations // shares + max(part - 1, 0) for part in range(shares))


def start_of(starts: Sequence[int], row: int) -> int:
    """The last of the starts that is not after ``row``."""
    return max(start for start in starts if start <= row)


def chunks(shares: Sequence[float], count: int) -> tuple[int, ...]:
    """How many of ``count`` chunks each share takes, rounded up. Raises BadInput where two take as many."""
    found = tuple(max(1, math.ceil(share * count - ROUNDING)) for share in shares)
    if len(set(found)) < len(found):
        taken = ", ".join(map(str, found))
        raise BadInput(
            f"fidelity {tuple(shares)} takes {taken} of {count} chunks of the data: give fewer shares, or more chunks"
        )
    return found
