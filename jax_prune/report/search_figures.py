"""Pictures of the search: each Report -> SVG text, empty where the run has no such numbers.

``convergence`` gives one small SVG a round; the page lays them out as its width allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jax_prune.report import wording
from jax_prune.report.drawing import SERIES, canvas, floats, legend, value_scale, whole_numbers
from jax_prune.report.schema import Report


def convergence(report: Report) -> str:
    """Best value so far against evaluations, the search and random search, a panel a round."""
    search = report.search
    if search is None:
        return ""
    random = search.random_history or ((),) * len(search.history)
    panels = [
        _convergence_panel(report, index, floats(ours), floats(theirs))
        for index, (ours, theirs) in enumerate(zip(search.history, random, strict=False))
        if np.isfinite(floats(ours)).any()
    ]
    return "\n".join(panels)


def _convergence_panel(report: Report, index: int, ours: np.ndarray, theirs: np.ndarray) -> str:
    title = f"Round {index + 1}"
    if index < len(report.rounds):
        entry = report.rounds[index]
        title = ", ".join(part for part in (f"Round {entry.round}", wording.compression(report, entry)) if part)
    with canvas(f"convergence {index}", f"search convergence, {title}", 2.9, 2.4) as (axes, render):
        axes.step(*_changes(ours), color=SERIES[0], where="post", zorder=3)
        if theirs.size:
            axes.step(*_changes(theirs), color=SERIES[1], where="post")
        value_scale(axes, np.concatenate([ours, theirs]))
        whole_numbers(axes)
        axes.set(title=title, xlabel="evaluations", ylabel=f"best {report.search.objective}" if report.search else "")
        return render()


def _changes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluation numbers and values where the value changes: thousands of points a line are wasteful."""
    differs = np.ones(len(values), bool)
    differs[1:-1] = values[1:-1] != values[:-2]
    at = np.flatnonzero(differs)
    return at + 1, values[at]


def sensitivity(report: Report) -> str:
    """Loss against the pruning ratio of one layer alone, with the upper bound the search was given."""
    curves = report.search.sensitivity if report.search else None
    if curves is None or not curves.loss:
        return ""
    names = [layer.name for layer in report.layers]
    upper = curves.bounds.upper if curves.bounds else ()
    ratios, losses = np.array(curves.ratios), [floats(row) for row in curves.loss]
    with canvas("sensitivity", "loss against one layer's pruning ratio") as (axes, render):
        handles = []
        for g, row in enumerate(losses):
            colour = _row_colour(g, len(losses))
            handles += axes.plot(ratios, row, color=colour)
            if g < len(upper):
                at = np.interp(upper[g], ratios, row)
                axes.plot([upper[g]], [at], "o", color=colour, markersize=6, zorder=3)
        value_scale(axes, np.concatenate(losses))
        axes.set(xlabel="pruning ratio of this layer alone", ylabel="loss")
        _legend_of_rows(axes, handles, names)
        return render()


def _row_colour(row: int, rows: int) -> Any:
    if rows <= len(SERIES):
        return SERIES[row]
    import matplotlib

    return matplotlib.colormaps["plasma"](0.05 + 0.75 * row / (rows - 1))


def _legend_of_rows(axes: Any, handles: list[Any], names: list[str]) -> None:
    if len(handles) <= len(SERIES):
        legend(axes, handles, names[: len(handles)])
    else:  # a legend of fifty layers tells nothing; the colour runs from the first layer to the last
        legend(axes, [handles[0], handles[-1]], [f"first: {names[0]}", f"last: {names[len(handles) - 1]}"])
