"""How a report's numbers are worded: the same in the page, in Markdown and in the terminal."""

from __future__ import annotations

from statistics import mean, stdev
from typing import NamedTuple

from jax_prune import progress
from jax_prune.report.schema import Report, Round, Side

NAMES = {
    "search": "search",
    "uniform": "uniform",
    "erk": "ERK",
    "lamp": "LAMP",
    "global": "global magnitude",
    "random": "random search",
    "score": "global score",
    "group_magnitude": "group magnitude",
    "uniform_score": "uniform by score",
}
DASH = "–"
SAMPLE = "sample"  # what the time of one step of a stream is of, beside batch sizes


class Line(NamedTuple):
    """One row of the before => after table; ``note`` says how it was counted."""

    label: str
    before: str
    after: str
    note: str = ""


def allocator(name: str) -> str:
    """The allocator's name as a reader knows it."""
    return NAMES.get(name, name)


def measured(report: Report, value: float | None) -> str:
    """An error as a percentage, or the value of the user's own measure as it is."""
    if value is None or report.measure == "error":
        return percent(value)
    return f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share as a percentage with two decimals."""
    return DASH if value is None else f"{100 * value:.2f} %"


def count(value: int | None) -> str:
    """A whole number with thousands separated."""
    return DASH if value is None else f"{value:,}"


def loss(value: float | None) -> str:
    """A loss to four significant digits."""
    return DASH if value is None else f"{value:#.4g}"


def times(value: float | None) -> str:
    """A compression factor."""
    if value is None:
        return DASH
    return f"{value:,.0f}×" if value >= 1000 else f"{value:.1f}×"


def size(value: int | None) -> str:
    """Bytes in the unit that reads best; a dash where there are none."""
    return DASH if value is None else progress.size(value)


def short(value: float) -> str:
    """A count as an axis shows it: 23k, 1.6M."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:g}"


def change(before: int | None, after: int | None) -> str:
    """Two counts in short."""
    if before is None or after is None:
        return DASH
    return f"{short(before)} => {short(after)}"


def share(part: float, whole: float) -> str:
    """part / whole as a percentage with digits that suit it."""
    if not whole:
        return DASH
    percent = 100 * part / whole
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds from two minutes up."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def milliseconds(seconds: float | None) -> str:
    """A call's time to three significant digits."""
    return DASH if seconds is None else f"{1e3 * seconds:.3g} ms"


def before_after(report: Report) -> list[Line]:
    """Error, parameters, MACs and bytes of the dense and the pruned network, as far as measured."""
    dense, pruned = report.dense, report.pruned
    test, validation = f"test {report.measure}", f"validation {report.measure}"
    lines = [
        Line(test, measured(report, dense.error), measured(report, pruned.error)),
        Line(validation, measured(report, dense.validation_error), measured(report, pruned.validation_error)),
        Line("weights", count(dense.weights), count(pruned.weights), "without biases"),
        Line("parameters", count(dense.params), count(pruned.params), "with biases"),
        Line("MACs", count(dense.macs), count(pruned.macs), _note(dense.macs_note, pruned.macs_note)),
        Line("size", size(dense.bytes), size(pruned.bytes), _note(dense.bytes_note, pruned.bytes_note)),
        Line("training steps", count(dense.steps), count(pruned.steps), "in all"),
    ]
    for batch in dense.seconds:
        before, after = (milliseconds(side.seconds.get(batch)) for side in (dense, pruned))
        of = "sample of a stream" if batch == SAMPLE else f"batch {batch}"
        lines.append(Line(f"latency, {of}", before, after, "median of warm jitted calls"))
    if report.budget is not None:
        asked = report.budget
        model = f", at most {count(asked.reached)} by the search's model" if asked.reached != asked.measured else ""
        reached = f"{count(asked.measured)} {asked.unit}{model}"
        lines.append(Line("budget", "", f"{count(asked.limit)} {asked.unit}", reached))
    return [line for line in lines if (line.before, line.after) != (DASH, DASH)]


def start_line(report: Report) -> str:
    """One sentence on the network that pruning began from, or nothing."""
    start = report.start
    if start is None:
        return ""
    parts = [f"{name} {report.measure} {measured(report, value)}" for name, value in _errors(start)]
    if start.steps is not None:
        parts.append(f"{count(start.steps)} training steps")
    detail = f": {', '.join(parts)}" if parts else ""
    steps = (report.dense.steps, report.pruned.steps)
    longer = steps[0] is not None and steps[1] is not None and steps[0] > steps[1]
    trained = f"for {count(steps[0])} steps, the pruned network for {count(steps[1])} in all."
    return (
        f"Pruning began from a dense network{detail}. The dense column is a reference network trained "
        f"{trained if longer else 'for as many steps as the pruned network had in all.'}"
    )


def missed_line(report: Report) -> str:
    """One sentence on the rounds in which no candidate met the tolerance, or nothing."""
    rounds = [(entry.round, entry.missed) for entry in report.rounds if entry.missed is not None]
    if not rounds:
        return ""
    listed = ", ".join(f"{number} (by {missed:.3g})" for number, missed in rounds)
    return f"No candidate met the tolerance in round {listed}: the one that came closest was kept."


def net(report: Report) -> str:
    """The network's name, with its width where that is not the published one; a library's run has none.

    Of a run that compares networks it is the best one.
    """
    name, width = report.config.get("net"), report.config.get("width", 1)
    if report.recognition is not None:
        name = report.recognition.confused
    if not name:
        return DASH
    return str(name) if width == 1 else f"{name} × {width:g}"


def data_line(report: Report) -> str:
    """The data set, with the one it stands in for where that is so."""
    return f"{report.dataset} (stand-in for {report.stand_in})" if report.stand_in else report.dataset


def _errors(side: Side) -> list[tuple[str, float]]:
    pairs = [("test", side.error), ("validation", side.validation_error)]
    return [(name, value) for name, value in pairs if value is not None]


def _note(before: str, after: str) -> str:
    return before if before == after or not after else f"{before} => {after}" if before else after


def compression(report: Report, entry: Round) -> str:
    """A round's compression of the prunable parameters."""
    size = sum(layer.size for layer in report.layers)
    kept = entry.kept if entry.kept is not None else entry.target
    return times(size / kept) if kept and size else ""


def returned_by_layer(report: Report) -> tuple[int, ...]:
    """Connections that came back, summed over the rounds, [G]; empty where no round counted them."""
    counted = [entry.returned for entry in report.rounds if len(entry.returned) == len(report.layers)]
    return tuple(sum(column) for column in zip(*counted, strict=True))


class OutcomeRow(NamedTuple):
    """Final errors of one allocator over its seeds; ``worded``: mean, spread, least, most."""

    allocator: str
    seeds: int
    worded: tuple[str, str, str, str]


def outcome_rows(report: Report) -> list[OutcomeRow]:
    """One row an allocator that was carried through the whole pipeline, in the report's order."""
    errors: dict[str, list[float]] = {}
    for entry in report.baselines.outcomes:
        if entry.error is not None:
            errors.setdefault(entry.allocator, []).append(entry.error)
    rows = []
    for name, values in errors.items():
        spread = stdev(values) if len(values) > 1 else None
        summary = [measured(report, value) for value in (mean(values), spread, min(values), max(values))]
        rows.append(OutcomeRow(name, len(values), (summary[0], summary[1], summary[2], summary[3])))
    return rows
