"""How the next trials are proposed: one table of algorithms, every row a few pure functions.

    memory = algorithm.start(config, length)
    memory = algorithm.begin(key, memory, outcome, config)
    trials = algorithm.propose(key, population, score, memory, config, bounds)
    memory = algorithm.learn(key, memory, outcome, config)

Trials are vectors [P, G] inside the box. The caller evaluates them, keeps, slot by slot, the better of parent and
trial, and tells the algorithm what came of them. ``evosax:NAME`` is a row too, for every algorithm of evosax.
"""

from __future__ import annotations

import difflib

from jax_prune.errors import BadInput
from jax_prune.evosearch.adaptive import jde, shade
from jax_prune.evosearch.classic import best1bin, currenttobest1bin, currenttopbest1bin, rand1bin, random
from jax_prune.evosearch.evosax_adapter import row
from jax_prune.evosearch.evosax_strategies import PREFIX
from jax_prune.evosearch.lshade import lshade
from jax_prune.evosearch.proposal import Algorithm

ALGORITHMS: dict[str, Algorithm] = {
    "rand1bin": rand1bin,
    "best1bin": best1bin,
    "currenttobest1bin": currenttobest1bin,
    "currenttopbest1bin": currenttopbest1bin,
    "jde": jde,
    "shade": shade,
    "lshade": lshade,
    "random": random,
}


def find(name: str) -> Algorithm:
    """The row of a name. Raises BadInput for one that is not known, with what comes close."""
    prefix, _, theirs = name.partition(":")
    if prefix == PREFIX and theirs:
        return row(theirs)
    if name not in ALGORITHMS:
        close = difflib.get_close_matches(name, ALGORITHMS, 1)
        known = f"known: {', '.join(ALGORITHMS)}, and {PREFIX}:NAME"
        raise BadInput(f"unknown search algorithm '{name}': " + (f"did you mean {close[0]}?" if close else known))
    return ALGORITHMS[name]
