"""How the next trials are proposed: one table of algorithms, every row three pure functions.

    memory = algorithm.start(config, length)
    trials = algorithm.propose(key, population, score, memory, config, bounds)
    memory = algorithm.learn(key, memory, outcome)

Trials are vectors [P, G] inside the box. The caller evaluates them, keeps, slot by slot, the better of parent and
trial, and tells the algorithm what came of them.
"""

from __future__ import annotations

from jax_prune.evosearch.adaptive import jde, shade
from jax_prune.evosearch.classic import best1bin, currenttobest1bin, currenttopbest1bin, rand1bin, random
from jax_prune.evosearch.proposal import Algorithm

ALGORITHMS: dict[str, Algorithm] = {
    "rand1bin": rand1bin,
    "best1bin": best1bin,
    "currenttobest1bin": currenttobest1bin,
    "currenttopbest1bin": currenttopbest1bin,
    "jde": jde,
    "shade": shade,
    "random": random,
}
