"""What a report says of recognition: networks over seeds, classes, ladders of pruning, other protocols.

Named lengths: S seeds, K classes. Accuracies are fractions in [0, 1] of windows, [S], one a seed; of the test subjects,
None where they were not read. Seconds are those of a call by its number of windows, "sample" being one sample of a
stream; a network of masked weights takes as long as the dense one and has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scored:
    """Accuracy, mean F1 of the classes (``macro_f1``), and accuracy on the validation subjects, each [S]."""

    accuracy: tuple[float | None, ...] = ()
    macro_f1: tuple[float | None, ...] = ()
    validation: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Recognizer:
    """One dense architecture. ``steps`` of training."""

    name: str
    scored: Scored
    params: int
    macs: int
    steps: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rung:
    """A pruned network: the share ``removed`` of "weights" or "hidden" units (``way``).

    ``params`` and ``macs`` are what is left, of the first seed's net; ``bytes`` on disk.
    """

    net: str
    way: str
    removed: float
    scored: Scored
    params: int
    macs: int
    steps: int
    bytes: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassScores:
    """One class of the best network: means over seeds, and how many ``windows`` of it were tested; None without any."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    windows: int


@dataclass(frozen=True)
class Protocol:
    """Another protocol's results with the network ``net``: ``name`` "random windows" or "leave one subject out".

    ``published`` are accuracies of papers by scenario; ``warning`` says why these are no measure of a new wearer.
    """

    name: str
    net: str
    accuracy: tuple[float, ...]
    macro_f1: tuple[float, ...]
    warning: str = ""
    published: dict[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Recognition:
    """All of it. ``networks`` the best on the validation subjects first; ``reference`` trained as long as the ladders;
    ``baseline`` is no network: what these have to beat.

    ``confusion`` [K, K] counts windows of all seeds, rows the truth, of the network ``confused``; ``classes`` are of
    the same. ``measured_on`` says whose windows: "test subjects 8, 9, 10" or, where they were not read, "validation
    subjects ...". ``shown`` names the rung of each way, ``Rung.removed`` by way, that the report puts first, and
    ``tolerance`` is the validation accuracy that it may have lost.
    """

    networks: tuple[Recognizer, ...]
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    confused: str
    windows: dict[str, int]
    measured_on: str
    baseline: Recognizer | None = None
    reference: tuple[Recognizer, ...] = ()
    ladders: tuple[Rung, ...] = ()
    shown: dict[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    protocols: tuple[Protocol, ...] = ()
