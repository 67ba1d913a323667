"""Decisions that differed from whole evaluation: counted by evaluating, in NumPy, every trial and every parent."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, examples, history

RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))


def make_fitness(problem, loss):
    return evosearch.budget_loss(evosearch.masked_loss(*problem, loss, chunk=6), 70, RATIOS)


def real_examples(masked):
    real = np.asarray(masked.weights).ravel() > 0
    return type(masked.chunks.batch)(
        *(np.asarray(leaf).reshape(-1, *leaf.shape[2:])[real] for leaf in masked.chunks.batch)
    )


def brute_force(problem, oracle, seed, config, fitness, info):
    """How many dropped trials NumPy finds at least as good as the parent that the search had."""
    init_key, _ = jax.random.split(jax.random.key(seed))
    ordered, kept = examples.ordered(init_key, config, fitness), history.seen(info, fitness)["kept"]
    count = 0
    for row in range(len(info.vectors)):
        if row in config.starts:
            part = problem._replace(batch=real_examples(examples.at(config, ordered, row).masked))
            parents = np.full(config.population, np.inf)
        means = np.array([oracle(part, counts)[0] for counts in kept[row]])
        count += (~info.exact[row] & (means <= parents)).sum()
        parents = np.where(info.accepted[row], means, parents)
    return count


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 1.0)])
def test_counts_what_brute_force_counts(make, loss, oracle, shares):
    config = Config("rand1bin", 12, 10, at_once=4, race="paired", confidence=0.5, fidelity=shares)
    differed = []
    for seed in range(2):
        problem = make(seed)
        fitness = make_fitness(problem, loss)
        info = evosearch.search(jax.random.key(seed), config, fitness.box, fitness).info
        found = evosearch.audit(jax.random.key(seed), config, fitness, info)
        assert found.dropped == (~info.exact).sum() > 0 and found.confidence == 0.5
        assert found.accepted == info.accepted.sum() - 12 * len(shares)
        assert found.differed == brute_force(problem, oracle, seed, config, fitness, info)
        assert found.rate == found.differed / (found.differed + found.accepted)
        differed.append(found.differed)
    assert any(differed) and not all(count == found.dropped for count in differed)


@pytest.mark.parametrize("race", ["exact", "none"])
def test_what_has_lost_for_certain_never_differs(problem, loss, race):
    fitness, config = make_fitness(problem, loss), Config(population=12, generations=10, at_once=4, race=race)
    info = evosearch.search(jax.random.key(0), config, fitness.box, fitness).info
    found = evosearch.audit(jax.random.key(0), config, fitness, info)
    assert (found.dropped > 0) == (race == "exact") and found.differed == 0 and found.confidence == 1
