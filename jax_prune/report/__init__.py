"""What a run says: report.json, the page, Markdown, the terminal table, and runs side by side.

report = Report(study="layerwise", ...)
page = write(report, workdir)          # report.json, report.html, report.md
show(report, page)                     # the short table on standard output
"""

from __future__ import annotations

from pathlib import Path

from jax_prune.report import compare, text
from jax_prune.report.correlation import correlations, rank_correlation
from jax_prune.report.machine import versions
from jax_prune.report.schema import (
    Audit,
    Baselines,
    Budget,
    Compression,
    Correlation,
    LatencyModel,
    Layer,
    Limits,
    Outcome,
    Point,
    Report,
    Round,
    Search,
    Sensitivity,
    Side,
    Spending,
    TradeOff,
    TradePoint,
    Tuned,
    Way,
)
from jax_prune.report.text import show, summary

__all__ = [
    "Audit",
    "Baselines",
    "Budget",
    "Compression",
    "Correlation",
    "LatencyModel",
    "Layer",
    "Limits",
    "Outcome",
    "Point",
    "Report",
    "Round",
    "Search",
    "Sensitivity",
    "Side",
    "Spending",
    "TradeOff",
    "TradePoint",
    "Tuned",
    "Way",
    "compare",
    "correlations",
    "rank_correlation",
    "show",
    "summary",
    "versions",
    "write",
]


def write(report: Report, folder: str | Path) -> Path:
    """Write report.json, .md and .html into ``folder``; the page's path. Raises BadInput when it cannot."""
    from jax_prune import storage
    from jax_prune.report import page

    target = Path(folder)
    report.to_json(target / "report.json")
    storage.write_text(target / "report.md", text.markdown(report))
    storage.write_text(target / "report.html", page.html(report))
    return target / "report.html"
