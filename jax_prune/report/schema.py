"""What report.json holds: the facts of one run, as frozen dataclasses.

Errors are fractions in [0, 1] when ``measure`` is "error" (0.0174 is 1.74 %); with a metric of the user's
own, ``measure`` names it and the numbers are shown as they are. Losses are means over examples.
Row g of ``layers``, ``Round.layers_kept``, ``Round.returned`` and ``Sensitivity.loss`` is group g. What a
run did not measure is None or empty, and the pages leave it out. Named lengths: G groups, R rounds,
E evaluations of a search, K points of a sensitivity curve.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from jax_prune.report import parse
from jax_prune.report.recognition import Recognition

FORMAT = 1


@dataclass(frozen=True)
class Side:
    """One network measured: dense reference, start or pruned.

    ``params`` counts every parameter, ``weights`` those without biases; of a pruned network the
    kept ones. ``macs`` are multiply-accumulates an example and ``macs_note`` says how they were
    counted; ``bytes`` is the size on disk or in memory that ``bytes_note`` names. ``seconds`` are those of a call, by
    its number of examples.
    """

    error: float | None = None
    validation_error: float | None = None
    params: int | None = None
    weights: int | None = None
    macs: int | None = None
    macs_note: str = ""
    bytes: int | None = None
    bytes_note: str = ""
    steps: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compression:
    """Total over kept: ``weights`` without biases, ``all`` with them."""

    weights: float | None = None
    all: float | None = None


@dataclass(frozen=True)
class Budget:
    """What the run was to stay within, in ``unit``, where that is not a number of entries: "MACs" or "bytes".

    ``reached`` is what the kept counts may come to by the model that the search used, and at most ``limit``;
    ``measured`` what the final masks come to: their products, or their positions and values before compression.
    """

    unit: str
    limit: int
    reached: int
    measured: int


@dataclass(frozen=True)
class Layer:
    """One group: its units, those kept, and the pruning ratio 1 - kept / size."""

    name: str
    size: int
    kept: int
    ratio: float


@dataclass(frozen=True)
class Round:
    """One round of pruning.

    ``target`` and ``kept`` are numbers of kept units over all groups; where ``Report.budget`` has another unit,
    ``limit`` and ``spent`` are in it and there is no target. ``layers_kept`` and
    ``returned`` are [G] counts (returned: pruned at the round's start, kept at its end).
    ``collapsed`` names the allocations that leave no path from input to output; ``missed`` is by how much the metric of
    the round's best candidate was below what the tolerance allows, None where it met it.
    ``search_loss`` and ``baselines`` are losses on the calibration data before any tuning, every
    allocation at the same budget.
    """

    round: int
    target: int | None = None
    kept: int | None = None
    validation_error_before_tuning: float | None = None
    validation_error: float | None = None
    baselines: dict[str, float | None] = field(default_factory=dict)
    search_loss: float | None = None
    returned: tuple[int, ...] = ()
    layers_kept: tuple[int, ...] = ()
    limit: int | None = None
    spent: int | None = None
    collapsed: tuple[str, ...] = ()
    missed: float | None = None


@dataclass(frozen=True)
class Point:
    """Validation at one moment: ``stage`` names the training, such as "tune"."""

    stage: str
    step: int
    validation_error: float | None
    epoch: float | None = None
    round: int | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Limits:
    """Allowed pruning ratios, two [G] rows."""

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sensitivity:
    """One-layer sweeps: ``loss[g][k]`` with only group g pruned at ``ratios[k]``."""

    ratios: tuple[float, ...] = ()
    loss: tuple[tuple[float | None, ...], ...] = ()
    bounds: Limits | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Audit:
    """Early decisions of all rounds beside whole evaluation: ``differed`` of the ``dropped`` trials would have won.

    ``accepted`` trials did. ``confidence`` is what a paired race states, at least that share of winners kept; else 1.
    """

    dropped: int
    accepted: int
    differed: int
    confidence: float


@dataclass(frozen=True)
class Search:
    """The search: ``history[r][e]`` is the best value after e + 1 evaluations of round r.

    ``evaluations`` is the number a round; ``random_history`` is random search at as many.
    ``objective`` names the value: "loss" at a budget, "kept fraction" at a tolerance. ``work[r]`` is the share of full
    evaluation that round r's search did: the rest was decided early, seen before, or judged by a share of the data
    alone, ``fidelity``; ``race`` says how. Values on less than all data are no part of the histories. ``precision`` is
    that of the candidates' products; below float32, ``changed[r]`` says whether round r's best few, scored again in
    float32, had another winner.
    """

    algorithm: str
    evaluations: int
    population: int
    generations: int | None = None
    objective: str = "loss"
    history: tuple[tuple[float | None, ...], ...] = ()
    random_history: tuple[tuple[float | None, ...], ...] = ()
    work: tuple[float | None, ...] = ()
    precision: str = "float32"
    changed: tuple[bool, ...] = ()
    race: str = "exact"
    fidelity: tuple[float, ...] = (1.0,)
    audit: Audit | None = None
    sensitivity: Sensitivity | None = None


@dataclass(frozen=True)
class TradePoint:
    """A masked network before any tuning: ``error`` on calibration data, exact counts, ``kept`` units [G].

    ``bytes`` are those of the packed leaves before compression.
    """

    error: float
    params: int
    macs: int
    bytes: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class TradeOff:
    """What the ``dense`` network offers: no vector seen beats one of the ``points`` in error, parameters and MACs.

    ``examples`` are those of the calibration data.
    """

    points: tuple[TradePoint, ...]
    dense: TradePoint
    examples: int
    evaluations: int
    population: int
    generations: int


@dataclass(frozen=True)
class Outcome:
    """One allocator carried through the whole pipeline with one seed (``--preset=compare``)."""

    allocator: str
    seed: int
    error: float | None
    dense_error: float | None = None


@dataclass(frozen=True)
class Spending:
    """What a smaller network spends of a limit: ``cost`` is "MACs", "parameters" or "latency", this in seconds a call.

    ``whole`` is what the dense network costs; the ``target`` is met as far as no channel more fits within all limits,
    the others are upper bounds.
    """

    cost: str
    limit: float
    spent: float
    whole: float
    target: bool


@dataclass(frozen=True)
class Way:
    """One way to a smaller network, the chosen one or one that it is compared with.

    ``network.steps`` are those of all its training, and ``seconds`` those of all that led to it, the dense training
    included where it begins with that. ``kept`` units [G]; ``ungated`` says by group why it had no gates and stays
    whole.
    """

    name: str
    network: Side
    spending: tuple[Spending, ...] = ()
    kept: tuple[int, ...] = ()
    seconds: float | None = None
    ungated: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LatencyModel:
    """What seconds of a call of ``batch`` examples were predicted by: measured times of so many ``networks``.

    ``error`` is the mean relative one, of each network as predicted from the others.
    """

    batch: int
    networks: int
    error: float


@dataclass(frozen=True)
class Tuned:
    """One allocation in a round of its own whole pipeline, all of that round at one budget.

    ``loss`` is on the calibration data before the round's tuning, ``error`` on the validation split after it.
    """

    allocator: str
    seed: int
    round: int
    loss: float | None
    error: float | None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of ``loss`` and ``error`` over a round's ``points`` allocations, None where either is constant."""

    round: int
    points: int
    rho: float | None


@dataclass(frozen=True)
class Baselines:
    """``losses[allocator]``: [R] losses at equal budget ("search" among them); ``outcomes``: final errors.

    ``tuned`` and ``correlations``: whether a loss before tuning foretells the error after it.
    """

    losses: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    tuned: tuple[Tuned, ...] = ()
    correlations: tuple[Correlation, ...] = ()

    @classmethod
    def of(
        cls,
        rounds: tuple[Round, ...],
        outcomes: tuple[Outcome, ...] = (),
        tuned: tuple[Tuned, ...] = (),
        correlations: tuple[Correlation, ...] = (),
    ) -> Baselines:
        """Gather every round's losses by allocator, the searched allocation first."""
        names = [name for entry in rounds for name in entry.baselines]
        losses = {name: tuple(entry.baselines.get(name) for entry in rounds) for name in dict.fromkeys(names)}
        if any(entry.search_loss is not None for entry in rounds):
            losses = {"search": tuple(entry.search_loss for entry in rounds), **losses}
        return cls(losses, outcomes, tuned, correlations)


@dataclass(frozen=True)
class Report:
    """Everything a finished run says; ``dense`` had as many training steps as ``pruned`` in all.

    ``start`` is the dense network that pruning began from. ``stand_in``, where ``dataset`` stands in
    for another, completes "is a stand-in for ..."; it is shown wherever results are. ``files`` maps
    what was written to its path in the workdir. ``ways``, of whole channels, has the chosen one first.
    """

    study: str
    title: str
    dataset: str
    seed: int
    dense: Side
    pruned: Side
    compression: Compression
    layers: tuple[Layer, ...]
    start: Side | None = None
    budget: Budget | None = None
    rounds: tuple[Round, ...] = ()
    history: tuple[Point, ...] = ()
    search: Search | None = None
    trade_off: TradeOff | None = None
    baselines: Baselines = field(default_factory=Baselines)
    ways: tuple[Way, ...] = ()
    latency: LatencyModel | None = None
    recognition: Recognition | None = None
    measure: str = "error"
    stand_in: str = ""
    command: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    def to_json(self, path: str | Path) -> None:
        """Write report.json atomically; NaN and infinities become null. Raises BadInput when it cannot."""
        from jax_prune import storage  # brings JAX, which reading a report does without

        storage.write_text(Path(path), _dumps(plain(self)))

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read and check a report.json; raises BadInput naming the field that is missing or wrong."""
        return parse.read(cls, Path(path), FORMAT)


def _dumps(value: Any) -> str:
    """Indented JSON with a list of numbers on one line: a history of hundreds must not be as many lines."""
    lines = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    # A newline is never inside a JSON string, so only lists are touched.
    flat = re.sub(r"\[\n\s+([^\[\]{}\"]+?)\n\s+\]", lambda found: f"[{' '.join(found[1].split())}]", lines)
    return flat + "\n"


def plain(value: Any) -> Any:
    """The value as JSON can hold it: dicts, lists, numbers, strings, None."""
    if is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy and JAX scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
