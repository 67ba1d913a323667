"""report.md, and the short table that ends a run in the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jax_prune.report import correlation, recognition_rows, trades, ways, wording
from jax_prune.report.schema import Report

if TYPE_CHECKING:
    from rich.console import Group


def markdown(report: Report) -> str:
    """The report as Markdown; parts that the run has no numbers for are left out."""
    factor = report.compression
    headline = (
        f"Compression {wording.times(factor.weights)} of weights, {wording.times(factor.all)} with biases. "
        f"Study {report.study}, data {wording.data_line(report)}, seed {report.seed}."
    )
    parts = [
        f"# {escape(report.title or report.study)}",
        escape(headline),
        escape(wording.start_line(report)),
        escape(wording.missed_line(report)),
    ]
    parts += [escape(note) for note in report.notes]
    parts += [
        _comparison(report),
        *_recognition(report),
        _ways(report),
        _layers(report),
        _rounds(report),
        _losses(report),
        _trade_off(report),
        _outcomes(report),
    ]
    return "\n\n".join([*(part for part in parts if part), _setting(report)]) + "\n"


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, first column to the left, the others to the right; nothing for no rows."""
    if not rows:
        return ""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    cells = [[cell if cell in ("---", "---:") else escape(str(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escape(value: str) -> str:
    """Text that Markdown shows as it is, in a table too: one line, no HTML, no column of its own."""
    for character, safe in (
        ("\\", "\\\\"),
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("|", "\\|"),
        ("\n", " "),
        ("*", "\\*"),
    ):
        value = value.replace(character, safe)
    return value


def summary(report: Report) -> Group:
    """For rich's Console.print: error and parameters before => after, and every layer."""
    from rich.console import Group
    from rich.text import Text

    title, data = Text(report.title or report.study, "bold"), Text(wording.data_line(report), "dim")
    factor = report.compression
    last = Text(f"compression {wording.times(factor.weights)} of weights, {wording.times(factor.all)} with biases")
    missed = [Text(line, "bold") for line in (wording.missed_line(report),) if line]
    recognition = _recognition_tables(report)
    return Group(title, data, _comparison_table(report), *recognition, _layer_table(report), last, *missed)


def show(report: Report, page: str | Path | None = None) -> None:
    """Print the summary, and the path of the page, on standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(summary(report))
    if page is not None:  # never broken into lines: it is there to be copied
        console.print(f"report: {page}", markup=False, soft_wrap=True)


def _comparison_table(report: Report) -> Any:
    rows = [(line.label, line.before, "=>", line.after) for line in wording.before_after(report)]
    return _terminal_table(("", "dense", "", "pruned"), rows)


def _layer_table(report: Report) -> Any:
    rows = [
        (layer.name, f"{layer.size:,}", "=>", f"{layer.kept:,}", wording.share(layer.kept, layer.size))
        for layer in report.layers
    ]
    return _terminal_table(("group", "before", "", "after", "kept"), rows)


def _recognition_tables(report: Report) -> list[Any]:
    from rich.text import Text

    brief = recognition_rows.brief(report.recognition) if report.recognition else []
    tables = [(Text(entry.explanation, "dim"), _terminal_table(entry.head, entry.rows)) for entry in brief]
    return [part for pair in tables for part in pair]


def _terminal_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(head):
        shown.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _comparison(report: Report) -> str:
    rows = [(line.label, line.before, line.after, line.note) for line in wording.before_after(report)]
    return table(("", "dense", "pruned", "counted"), rows)


def _recognition(report: Report) -> list[str]:
    found = recognition_rows.tables(report.recognition) if report.recognition else []
    return [
        _titled(escape(entry.title), "\n\n".join(
            (escape(entry.explanation), table(entry.head, entry.rows), *map(escape, (*entry.remarks, *entry.warnings)))
        ))
        for entry in found
    ]  # fmt: skip


def _ways(report: Report) -> str:
    by_group = table(*ways.groups(report))
    ungated = [escape(f"{line}.") for line in ways.ungated(report)]
    rows = table(*ways.table(report))
    parts = [escape(ways.explanation(report)) if rows else "", rows, by_group, *ungated]
    return _titled("Ways", "\n\n".join(part for part in parts if part))


def _layers(report: Report) -> str:
    rows = [(layer.name, f"{layer.size:,}", f"{layer.kept:,}", f"{layer.ratio:.4f}") for layer in report.layers]
    return _titled("Layers", table(("group", "before", "after", "ratio"), rows))


def _rounds(report: Report) -> str:
    rows = [
        (
            entry.round,
            wording.count(entry.kept),
            wording.measured(report, entry.validation_error_before_tuning),
            wording.measured(report, entry.validation_error),
            wording.count(sum(entry.returned)) if entry.returned else "",
        )
        for entry in report.rounds
    ]
    before, after = f"validation {report.measure} before tuning", "after"
    return _titled("Rounds", table(("round", "kept", before, after, "returned"), rows))


def _losses(report: Report) -> str:
    losses = report.baselines.losses
    rows = [
        (entry.round, *(wording.loss(row[index] if index < len(row) else None) for row in losses.values()))
        for index, entry in enumerate(report.rounds if losses else ())
    ]
    head = ("round", *(wording.allocator(name) for name in losses))
    return _titled("Loss of each allocation at the same budget, before tuning", table(head, rows))


def _trade_off(report: Report) -> str:
    title = "Trade-off of the dense net before any tuning: least calibration error at so many parameters"
    return _titled(title, table(trades.HEAD, trades.rows(report)))


def _outcomes(report: Report) -> str:
    if report.ways:  # their table says as much of each
        return ""
    rows = [(wording.allocator(row.allocator), row.seeds, *row.worded) for row in wording.outcome_rows(report)]
    head = ("allocator", "seeds", "mean", "spread", "least", "most")
    parts = [table(head, rows), escape(correlation.sentence(report))]
    return _titled("Whole pipeline by allocator", "\n\n".join(part for part in parts if part))


def _setting(report: Report) -> str:
    parts = [f"## Setting\n\n    {' '.join(report.command.split())}" if report.command else "## Setting"]
    if report.seconds:
        stages = ", ".join(f"{name} {wording.duration(value)}" for name, value in report.seconds.items())
        parts.append(escape(f"Time: {stages}; in all {wording.duration(sum(report.seconds.values()))}."))
    if report.versions:
        parts.append(escape("Versions: " + ", ".join(f"{name} {value}" for name, value in report.versions.items())))
    if report.config:
        parts.append("\n".join(f"    {line}" for line in json.dumps(report.config, indent=1, default=str).split("\n")))
    return "\n\n".join(parts)


def _titled(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""
