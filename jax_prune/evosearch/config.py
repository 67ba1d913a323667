"""What a search is told: its settings, checked once, before anything is compiled."""

from __future__ import annotations

import dataclasses
import math

from jax_prune import settings
from jax_prune.errors import BadInput
from jax_prune.evosearch import fidelity
from jax_prune.evosearch.algorithms import find
from jax_prune.evosearch.racing import RACES
from jax_prune.evosearch.vectors import REPAIRS


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of ``search``; static and hashable, one compiled program for each; several for lshade at scale.

    A search evaluates ``population * (generations + 1)`` candidates, the initial ones included, whatever the
    ``algorithm`` (a key of ``algorithms.ALGORITHMS``, or ``evosax:NAME``). ``scale`` is the range from which every
    trial draws its differential weight F (dither, Price, Storn and Lampinen 2005, section 2.5); ``crossover`` the share
    of entries taken from the mutant; jde, shade and lshade find both themselves, and the population of lshade shrinks,
    so that it has more generations than are stated, ``len(sizes)``. ``repair``: what becomes of entries that
    leave the box, reflect, clip or resample. ``at_once`` candidates are evaluated together (``probe.at_once`` finds
    a good number): 1 is a loop, ``population`` or more one vmap. ``chunk``: the most generations between two
    looks of the host, for progress and Ctrl-C. ``race``: exact, a trial that has lost for certain is not evaluated to
    its end, which needs a ``racing.Summed`` fitness and leaves all populations as they are; paired, nor is one that is
    worse than its parent with ``confidence`` (see ``duel``; a mean loss alone); or none. ``fidelity``: shares of the
    data, growing to 1, on which equal parts of the generations are judged; more than one need a ``Summed`` fitness,
    and each further one scores the population anew: ``population`` evaluations and a generation more. Raises BadInput
    for settings out of range or of another type.
    """

    algorithm: str = "best1bin"
    population: int = 24
    generations: int = 15
    crossover: float = 0.9
    scale: tuple[float, float] = (0.5, 1.0)
    repair: str = "reflect"
    at_once: int = 1
    chunk: int = 4
    race: str = "exact"
    confidence: float = 0.99
    fidelity: tuple[float, ...] = fidelity.WHOLE

    def __post_init__(self) -> None:
        settings.check(self)
        object.__setattr__(self, "fidelity", tuple(self.fidelity))  # static settings are hashed, and lists are not
        find(self.algorithm)
        if self.repair not in REPAIRS:
            raise BadInput(f"unknown repair '{self.repair}': known are {', '.join(REPAIRS)}")
        if self.race not in RACES:
            raise BadInput(f"unknown race '{self.race}': known are {', '.join(RACES)}")
        if not 0.5 <= self.confidence < 1:
            raise BadInput(f"confidence is {self.confidence}: give 0.5 to below 1")
        if self.population < 4:
            raise BadInput(f"population is {self.population}: a trial needs three partners, give at least 4")
        if self.generations < 0:
            raise BadInput(f"generations is {self.generations}: give 0 (initial candidates only) or more")
        if not 0 <= self.crossover <= 1:
            raise BadInput(f"crossover is {self.crossover}: give a share between 0 and 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise BadInput(f"scale is {self.scale}: give two positive numbers (lowest, highest)")
        if self.at_once < 1 or self.chunk < 1:
            raise BadInput(f"at_once is {self.at_once}, chunk {self.chunk}: give at least 1")
        fidelity.checked(self.fidelity, len(find(self.algorithm).sizes(self)))
        if self.fidelity != fidelity.WHOLE and not find(self.algorithm).forgets_scores(self):
            raise BadInput(
                f"'{self.algorithm}' remembers scores, or plans with evaluations, which a growing share of the data "
                "mixes up: give fidelity=(1.0,)"
            )

    @property
    def evaluations(self) -> int:
        """How many candidates a whole search evaluates."""
        return self.population * (self.generations + len(self.fidelity))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many candidates each generation evaluates, the initial one first; ``evaluations`` in all."""
        return find(self.algorithm).sizes(self) + (self.population,) * (len(self.fidelity) - 1)

    @property
    def starts(self) -> tuple[int, ...]:
        """At which of these the population itself is scored: 0, and where the share of ``fidelity`` grows."""
        return fidelity.starts(len(self.fidelity), len(self.sizes) - len(self.fidelity) + 1)
