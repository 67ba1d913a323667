"""How many channels each group keeps: found by a search near the uniform cut, kept where it is better beyond chance.

A search compares candidates before tuning. Far down all of them are near chance, and the least loss may be that of a
network with a group of one channel, which no tuning repairs. So a group keeps a share of what the uniform cut leaves
it (``targets.floored``), and what was found replaces the counts known without a search only where it loses less on
examples that the search did not see, beyond chance (``beyond_chance``). Both guards are ours.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_prune import beyond_chance, evosearch
from jax_prune.learning import ExampleFunction
from jax_prune.narrowing import Chosen, chosen_by, masked_loss, strongest
from jax_prune.searching import searched, widest
from jax_prune.stages import Stage, Stages
from jax_prune.targets import Target, floored
from jax_prune.types import Array, Batch, Net

KNOWN = ("uniform", "global", "lamp")  # their counts are a search's first candidates; group_magnitude's are uniform's


class Samples(NamedTuple):
    """Training examples on which candidates are compared, and others on which what was found is judged."""

    searched: Batch
    unseen: Batch


def chosen_by_search(
    key: Array,
    net: Net,
    target: Target,
    floor: float,
    samples: Samples,
    ranking: tuple[Array, ...],
    config: evosearch.Config,
    loss: ExampleFunction,
    stages: Stages,
    memory: int,
) -> Chosen:
    """The counts with the least loss within the target's limits, or the best known ones; units stay by ``ranking``.

    Every group keeps at least the share ``floor`` of what the uniform cut leaves it. The search begins with the
    allocations that need none. How many candidates at once is probed once, within ``memory`` bytes in all, and kept;
    the memory plan is printed with it. Raises BadInput for a floor outside [0, 1].
    """
    box = floored(target, floor)
    known = known_counts(net, target, box)
    masked = masked_loss(net, target, samples.searched, ranking, loss)
    fitness = evosearch.channel_loss(masked, box.limits, box.bounds)
    start = np.stack([evosearch.genome_of(counts, target.groups) for counts in known.values()])

    def probed() -> Stage:
        genomes = jnp.tile(jnp.asarray(start[0]), (config.population, 1))
        held = evosearch.memory.planned(masked, memory, copies=evosearch.examples.copies(config))
        return widest(fitness, genomes, held)

    width = stages("probe", probed).facts["at_once"]
    settings = dataclasses.replace(config, at_once=width)
    found = searched(
        key, settings, fitness.box, fitness, start[: config.population], stages.scratch("search", "search")
    )
    counts = {**known, beyond_chance.FOUND: np.asarray(fitness.kept(jnp.asarray(found.best)), np.int64)}
    unseen = masked_loss(net, target, samples.unseen, ranking, loss, statistics=samples.searched)
    verdict = beyond_chance.judged(unseen, known, counts[beyond_chance.FOUND])
    facts = {
        "loss": float(found.score.value),
        "at_once": width,
        "work": evosearch.history.share_of_work(found.info) if width == 1 else None,
        # their counts, by this search's own ranking
        "known": dict(zip(KNOWN, map(float, found.info.score.value[0][: len(KNOWN)]), strict=True)),
        "counts": {name: kept.tolist() for name, kept in counts.items()},
        "verdict": verdict._asdict(),
    }
    flags = strongest(ranking, target.groups, counts[verdict.kept])
    return Chosen(flags, evosearch.history.seen(found.info, fitness), facts)


def known_counts(net: Net, target: Target, box: Target) -> dict[str, np.ndarray]:
    """Counts int64 [G] of the allocations without a search: the uniform cut, and the others moved into the ``box``."""
    return {way: chosen_by(way, net, target if way == "uniform" else box).counts for way in KNOWN}
