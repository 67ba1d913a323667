"""The page's boxes of recognition: tables beside pictures; each is nothing where the run has no numbers."""

from __future__ import annotations

from jax_prune.report import drawing
from jax_prune.report import recognition_figures as figures
from jax_prune.report import recognition_rows as rows
from jax_prune.report import recognition_wording as words
from jax_prune.report.markup import Cell, Html, join, pair, paragraph, picture, section, table
from jax_prune.report.recognition import Recognition
from jax_prune.report.schema import Report


def recognition(report: Report) -> list[Html]:
    """Networks, classes, ladders and other protocols."""
    found = report.recognition
    if found is None:
        return []
    drawn = drawing.available()
    return [
        _box(rows.networks(found)),
        _networks(found) if drawn else Html(""),
        *_classes(found, drawn),
        *map(_box, rows.ladders(found)),
        *([_ladder(found, way) for way in words.ladder_ways(found)] if drawn else ()),
        _box(rows.protocols(found)),
    ]


def _networks(found: Recognition) -> Html:
    return pair(
        section(
            "Networks over seeds",
            "A dot a seed, the bar at the mean.",
            picture(figures.networks(found)),
        ),
        section(
            "Accuracy against time",
            "Diamonds: dense networks; dots: without hidden units and filters. Means over seeds, times of the first.",
            picture(figures.by_latency(found)),
        ),
    )


def _classes(found: Recognition, drawn: bool) -> list[Html]:
    """The confusion matrix, as a picture where there can be one, and the classes beside it where it is small."""
    counts = rows.confusion(found)
    explanation = f"{counts.explanation} In percent of the row; rest on a cell for its windows."
    wide = len(found.confusion) > figures.FEW
    matrix = section(
        counts.title, explanation, picture(figures.confusion(found), "picture wide" if wide else "picture")
    )
    matrix = matrix if drawn else _box(counts)
    parts = [entry for entry in (matrix, _box(rows.classes(found))) if entry]
    return parts if wide else [pair(*parts)]


def _ladder(found: Recognition, way: str) -> Html:
    name = words.way(way)
    dotted = f" Dotted: {words.LONGER}." if found.reference else ""
    return pair(
        section(
            f"{name[:1].upper()}{name[1:]} removed",
            f"Means over seeds; the band reaches from the worst seed to the best.{dotted}",
            picture(figures.by_share(found, way)),
        ),
        section(
            "The same by parameters",
            "Over the parameters that are left, logarithmic. Rest on a dot for its numbers.",
            picture(figures.by_parameters(found, way)),
        ),
    )


def _box(entry: rows.Table) -> Html:
    head = [Cell(name, "wrap") for name in entry.head]
    return section(
        entry.title,
        entry.explanation,
        table(head, entry.rows, dict.fromkeys(entry.marked, "first")),
        join(paragraph(line, "muted small beneath") for line in entry.remarks),
        join(paragraph(line, "warn beneath") for line in entry.warnings),
    )
