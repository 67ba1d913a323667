"""What a run says of recognition as tables: networks, classes, ladders, other protocols; for every kind of page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jax_prune.report import recognition_wording as words
from jax_prune.report import wording
from jax_prune.report.recognition import Protocol, Recognition, Recognizer, Rung, Scored

HELD_OUT = "held-out subjects"


class Table(NamedTuple):
    """A titled table: what its columns mean, head and rows of cells; ``remarks`` and ``warnings`` go beneath it.

    ``marked`` are the numbers of rows that stand out.
    """

    title: str
    explanation: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    marked: tuple[int, ...] = ()


def tables(found: Recognition) -> list[Table]:
    """Every table that the run has numbers for."""
    every = (networks(found), classes(found), confusion(found), *ladders(found), protocols(found))
    return [entry for entry in every if entry.rows]


def networks(found: Recognition) -> Table:
    """A row a dense network, the best on the validation subjects first, and one of what they have to beat."""
    sizes = list(dict.fromkeys(size for own in found.networks for size in own.seconds))
    every = (*found.networks, *([found.baseline] if found.baseline else []))
    head, rows = _columns([_network(own, sizes) for own in every])
    return Table("Networks", measured(found), head, rows)


def classes(found: Recognition) -> Table:
    """A row a class, of the network ``confused``."""
    rows = [
        (own.name, *(wording.percent(value) for value in (own.precision, own.recall, own.f1)), f"{own.windows:,}")
        for own in found.classes
    ]
    explanation = f"Of {found.confused} on the same windows, means over seeds; how many windows show the class."
    return Table("Classes", explanation, ("class", "precision", "recall", "F1", "windows"), rows)


def confusion(found: Recognition) -> Table:
    """Counts of windows, a row a true class."""
    names = words.class_names(found)
    rows = [(name, *map(wording.count, counts)) for name, counts in zip(names, found.confusion, strict=True)]
    explanation = f"What {found.confused} took the same windows for, all seeds together; a row is a true class."
    return Table("Confusion", explanation, ("class", *names), rows)


def ladders(found: Recognition) -> list[Table]:
    """A table a pruned network, a row a rung under the dense rows; the rungs that come first are marked."""
    return [_ladder_table(found, name) for name in words.pruned(found)]


def protocols(found: Recognition) -> Table:
    """A row a protocol, beside what papers published of it; its network's row on held-out subjects above."""
    if not found.protocols:
        return Table("Other protocols", "", (), [])
    asked = dict.fromkeys(entry.net for entry in found.protocols)
    held_out = [
        Protocol(HELD_OUT, own.name, tuple(words.accuracies(own.scored)), tuple(words.known(own.scored.macro_f1)))
        for own in found.networks if own.name in asked
    ]  # fmt: skip
    scenarios = list(dict.fromkeys(scenario for entry in found.protocols for scenario in entry.published))
    head, rows = _columns([_protocol(entry, scenarios) for entry in (*held_out, *found.protocols)])
    sources = [f"{entry.name}, published: {entry.source}." for entry in found.protocols if entry.published]
    warnings = tuple(_sentence(entry.warning) for entry in found.protocols if entry.warning)
    explanation = "Trainings: one a seed, or one a subject where each is left out in turn; ± over these."
    return Table("Other protocols", explanation, head, rows, tuple(map(_sentence, sources)), warnings)


def brief(found: Recognition) -> list[Table]:
    """The networks and the ladders in the few columns that a terminal has room for."""
    nets = [{"network": own.name, **_brief(found, words.whole(own, words.DENSE))} for own in found.networks]
    ladders = [
        [{"removed": words.removed(rung), **_brief(found, rung)} for rung in _ladder(found, name)]
        for name in words.pruned(found)
    ]
    titles = (f"{name}, pruned; change in points" for name in words.pruned(found))
    return [Table("", measured(found), *_columns(nets)),
            *(Table("", title, *_columns(rows)) for title, rows in zip(titles, ladders, strict=True))]  # fmt: skip


def measured(found: Recognition) -> str:
    """Whose windows accuracies are of, what stands behind "±", and how many windows there were."""
    counts = ", ".join(f"{name} {wording.count(count)}" for name, count in found.windows.items())
    windows = f" Windows: {counts}." if counts else ""
    seeds = max((len(words.accuracies(own.scored)) for own in found.networks), default=0)
    behind = f"; ±: standard deviation over {seeds} seeds, in points" if seeds > 1 else ""
    return f"Accuracy on {found.measured_on}{behind}.{windows}"


def _network(own: Recognizer, sizes: Iterable[str]) -> dict[str, str]:
    return {
        "network": own.name,
        "accuracy": words.spread(own.scored.accuracy),
        "validation accuracy": words.spread(own.scored.validation),
        "macro-F1": words.percent(own.scored.macro_f1),
        "parameters": wording.count(own.params),
        "MACs": wording.count(own.macs),
        **{words.call(size): wording.milliseconds(own.seconds.get(size)) for size in sizes},
    }


def _ladder(found: Recognition, name: str) -> list[Rung]:
    """The dense rows of a network, and its rungs of every way."""
    above = [own for own in (words.dense(found, name), words.longer(found, name)) if own is not None]
    return above + [rung for way in words.ladder_ways(found) for rung in words.rungs(found, name, way)]


def _ladder_table(found: Recognition, name: str) -> Table:
    listed, put_first = _ladder(found, name), words.first(found)
    head, rows = _columns([_rung(found, rung) for rung in listed])
    longer = words.longer(found, name)
    against = f" and the one trained longer, for {longer.steps:,} steps, as many as the lowest rung" if longer else ""
    explanation = (
        f"On the same windows; changes in points against the dense network{against}. In brackets: the share of the "
        "dense network's. Where weights went, MACs are those of kept ones; dense hardware still does them all."
    )
    remarks = tuple(_first(found, rung) for rung in put_first if rung in listed)
    marked = tuple(number for number, rung in enumerate(listed) if rung in put_first)
    return Table(f"Ladders of {name}", explanation, head, rows, remarks, marked=marked)


def _rung(found: Recognition, rung: Rung) -> dict[str, str]:
    dense, longer = words.dense(found, rung.net) or rung, words.longer(found, rung.net)
    seconds = rung.seconds.get("1")
    return {
        "removed": words.removed(rung),
        **_accuracy(rung.scored),
        "change": words.change(rung, dense),
        "against longer": words.change(rung, longer) if rung.removed else wording.DASH,
        "macro-F1": words.percent(rung.scored.macro_f1),
        "parameters": words.part(rung.params, dense.params, wording.count(rung.params)),
        "MACs": words.part(rung.macs, dense.macs, wording.short(rung.macs)),
        "size": wording.size(rung.bytes),
        "call of 1": words.part(seconds, dense.seconds.get("1"), wording.milliseconds(seconds)),
    }


def _brief(found: Recognition, rung: Rung) -> dict[str, str]:
    return {
        **_accuracy(rung.scored),
        "change": words.change(rung, words.dense(found, rung.net)),
        "params": wording.count(rung.params),
        "one call": wording.milliseconds(rung.seconds.get("1")),
    }


def _accuracy(scored: Scored) -> dict[str, str]:
    """The accuracy, under the name of the windows that it is of."""
    name = "accuracy" if words.known(scored.accuracy) else "validation accuracy"
    return {name: words.spread(words.accuracies(scored))}


def _first(found: Recognition, rung: Rung) -> str:
    """Which rung comes first, and what it lost where that was decided."""
    dense = words.dense(found, rung.net)
    change = words.points(words.known(rung.scored.validation), words.known(dense.scored.validation) if dense else [])
    allowed = "" if found.tolerance is None else f"; up to {100 * found.tolerance:.2f} may be lost"
    decided = f": {change} points on the validation subjects{allowed}" if change != wording.DASH else ""
    within = words.lost(rung, dense) <= (found.tolerance or 0) if dense and found.tolerance is not None else True
    none = "" if within else " No rung keeps within that, so the first one is shown."
    return f"Shown first: {words.removed(rung)} removed{decided}.{none}"


def _protocol(entry: Protocol, scenarios: Sequence[str]) -> dict[str, str]:
    return {
        "protocol": entry.name,
        "network": entry.net,
        "trainings": wording.count(len(entry.accuracy)),
        "accuracy": words.spread(entry.accuracy),
        "macro-F1": words.percent(entry.macro_f1),
        **{f"published, {name}": wording.percent(entry.published.get(name)) for name in scenarios},
    }


def _columns(rows: Sequence[dict[str, str]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows; a column without any number is left out."""
    heads = dict.fromkeys(head for row in rows for head in row)
    head = tuple(name for name in heads if any(row.get(name, wording.DASH) != wording.DASH for row in rows))
    return head, [tuple(row.get(name, wording.DASH) for name in head) for row in rows]


def _sentence(said: str) -> str:
    """With a capital and a full stop."""
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."
