"""How numbers of recognition are worded, and which of a report's networks stand beside which.

Accuracies are means over seeds, the sample standard deviation in points behind "±"; changes are differences of means.
Where the test subjects were not read, a network's accuracy is that on the validation subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from jax_prune.report import wording
from jax_prune.report.recognition import Recognition, Recognizer, Rung, Scored

WAYS = {"weights": "weights", "hidden": "hidden units and filters"}
DENSE, LONGER = "dense", "dense, trained longer"  # ways of the rows from which nothing is removed


def known(values: Sequence[float | None]) -> list[float]:
    """The values that were measured."""
    return [value for value in values if value is not None]


def accuracies(scored: Scored) -> list[float]:
    """One a seed: of the test subjects, or of the validation subjects where those were not read."""
    return known(scored.accuracy) or known(scored.validation)


def percent(values: Sequence[float | None]) -> str:
    """The mean as a percentage."""
    found = known(values)
    return wording.percent(mean(found) if found else None)


def spread(values: Sequence[float | None]) -> str:
    """The mean as a percentage, and the standard deviation in points where there are several."""
    found = known(values)
    return f"{percent(found)} ± {100 * stdev(found):.2f}" if len(found) > 1 else percent(found)


def points(after: Sequence[float], before: Sequence[float]) -> str:
    """How far one mean is from the other, in points."""
    if not after or not before:
        return wording.DASH
    change = round(100 * (mean(after) - mean(before)), 2) + 0.0  # + 0.0: never minus nothing
    return f"{change:+.2f}".replace("-", "−")


def lost(rung: Rung, other: Rung) -> float:
    """By how much the mean accuracy on the validation subjects is below another network's, as a fraction."""
    before, after = known(other.scored.validation), known(rung.scored.validation)
    return mean(before) - mean(after) if before and after else 0.0


def change(rung: Rung, other: Rung | None) -> str:
    """Points of accuracy against another network; a dash against itself."""
    if other is None or rung == other:
        return wording.DASH
    return points(accuracies(rung.scored), accuracies(other.scored))


def way(name: str) -> str:
    """What goes in a way, in words."""
    return WAYS.get(name, name)


def removed(rung: Rung) -> str:
    """What a rung has lost: a share with the digits that it has, of what; or which dense network it is."""
    return f"{100 * rung.removed:.4g} % of {way(rung.way)}" if rung.removed else rung.way


def call(size: str) -> str:
    """What a time is of: a call of so many windows, or of one sample of a stream."""
    return "sample of a stream" if size == wording.SAMPLE else f"call of {size}"


def part(value: float | None, whole: float | None, worded: str) -> str:
    """A worded value and its share of the dense network's, where that is known and another."""
    return worded if value is None or not whole or value == whole else f"{worded} ({wording.share(value, whole)})"


def class_names(found: Recognition) -> list[str]:
    """Names of the classes, by number where the report has none."""
    named = [entry.name for entry in found.classes]
    return named if len(named) == len(found.confusion) else [str(index) for index in range(len(found.confusion))]


def shares(found: Recognition) -> list[list[float]]:
    """Percentages of each true class [K, K]: a row sums to 100, or to 0 where no window shows the class."""
    return [[100 * count / max(sum(row), 1) for count in row] for row in found.confusion]


def pruned(found: Recognition) -> list[str]:
    """Names of the networks with a ladder, in the report's order."""
    return list(dict.fromkeys(rung.net for rung in found.ladders))


def whole(own: Recognizer, way: str) -> Rung:
    """A dense network as a rung that removes nothing."""
    return Rung(own.name, way, 0.0, own.scored, own.params, own.macs, own.steps, seconds=own.seconds)


def dense(found: Recognition, name: str) -> Rung | None:
    """The network ``name`` before pruning."""
    return next((whole(own, DENSE) for own in found.networks if own.name == name), None)


def longer(found: Recognition, name: str) -> Rung | None:
    """The dense network ``name`` trained as long as the ladders."""
    return next((whole(own, LONGER) for own in found.reference if own.name == name), None)


def rungs(found: Recognition, name: str, way: str) -> list[Rung]:
    """One network's ladder of one way, least removed first."""
    own = (rung for rung in found.ladders if (rung.net, rung.way) == (name, way))
    return sorted(own, key=lambda rung: rung.removed)


def ladder_ways(found: Recognition) -> list[str]:
    """The ways that were walked, in the report's order."""
    return list(dict.fromkeys(rung.way for rung in found.ladders))


def first(found: Recognition) -> list[Rung]:
    """The rungs of the best network that the report puts first, one a way."""
    best = pruned(found)[:1]
    return [rung for rung in found.ladders if rung.net in best and found.shown.get(rung.way) == rung.removed]
