"""report.html: one run on one page that opens without network."""

from __future__ import annotations

import json

from jax_prune.report import drawing, recognition_sections, sections, wording
from jax_prune.report.markup import (
    Cell,
    Html,
    document,
    facts,
    join,
    pair,
    paragraph,
    section,
    table,
    text,
)
from jax_prune.report.schema import Report

NO_PICTURES = "Pictures are left out: matplotlib is missing. pip install 'jax_prune[report]', then jax-prune report."


def html(report: Report) -> str:
    """The whole page; parts that the run has no numbers for are left out."""
    pictures = drawing.available()
    return document(
        report.title or report.study,
        _header(report),
        paragraph("" if pictures else NO_PICTURES, "warn"),
        _cards(report),
        _comparison(report),
        *recognition_sections.recognition(report),
        sections.way_tables(report),
        sections.layers(report),
        *(sections.pictures(report) if pictures else ()),
        sections.trade_off(report),
        sections.baseline_table(report),
        sections.outcome_table(report),
        _setting(report),
    )


def _header(report: Report) -> Html:
    where = f"study {report.study} · {report.dataset} · seed {report.seed}"
    stand_in = f"{report.dataset} is a stand-in for {report.stand_in}" if report.stand_in else ""
    notes = join(paragraph(note, "muted small") for note in report.notes)
    title = text(report.title or report.study)
    warnings = join(paragraph(line, "warn") for line in (stand_in, wording.missed_line(report)))
    return Html(f"<header><h1>{title}</h1>{paragraph(where, 'muted')}{warnings}{notes}</header>")


def _cards(report: Report) -> Html:
    dense, pruned, factor = report.dense, report.pruned, report.compression
    entries = [
        ("compression of weights", wording.times(factor.weights), "", "total / kept, without biases"),
        ("compression of all", wording.times(factor.all), "", "total / kept, with biases"),
        (f"test {report.measure}", *_change(report, dense.error, pruned.error), "dense => pruned"),
        ("size", wording.size(pruned.bytes), wording.size(dense.bytes), pruned.bytes_note),
    ]
    if pruned.error is None:
        change = _change(report, dense.validation_error, pruned.validation_error)
        entries[2] = (f"validation {report.measure}", *change, "dense => pruned")
    shown = [entry for entry in entries if entry[1] != wording.DASH]
    return Html(f'<div class="cards">{join(_card(*entry) for entry in shown)}</div>') if shown else Html("")


def _change(report: Report, before: float | None, after: float | None) -> tuple[str, str]:
    return wording.measured(report, after), wording.measured(report, before)


def _card(label: str, value: str, before: str, note: str) -> Html:
    origin = f'<span class="from">{text(before)} → </span>' if before not in ("", wording.DASH) else ""
    return Html(
        f'<div class="card"><div class="muted small">{text(label)}</div>'
        f'<div class="value">{origin}{text(value)}</div><div class="muted small">{text(note)}</div></div>'
    )


def _comparison(report: Report) -> Html:
    lines = wording.before_after(report)
    rows = [(line.label, line.before, line.after, Cell(line.note, "muted small text")) for line in lines]
    head = ("", "dense", "pruned", "")
    return section("Before and after", wording.start_line(report), table(head, rows))


def _setting(report: Report) -> Html:
    seconds = {name: wording.duration(value) for name, value in report.seconds.items()}
    if seconds:
        seconds["in all"] = wording.duration(sum(report.seconds.values()))
    config = {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in report.config.items()
    }
    command = Html(f"<pre>{text(report.command)}</pre>") if report.command else ""
    return join(
        (
            section("Command", "", command),
            pair(
                section("Configuration", "", facts(config)),
                join(
                    (
                        section("Time", "", facts(seconds)),
                        section("Files", "", facts(report.files)),
                        section("Versions", "", facts(report.versions)),
                    )
                ),
            ),
        )
    )
