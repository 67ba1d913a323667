"""Pictures of what error is traded for: one run's front, and the fronts of several runs -> SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_prune.report import trades, wording
from jax_prune.report.drawing import MUTED, SERIES, canvas, count_scale, floats, legend, tip, value_scale
from jax_prune.report.schema import Report, TradeOff, TradePoint

DOT: dict[str, Any] = {"markersize": 5.5, "markeredgewidth": 0.5, "markeredgecolor": MUTED}  # seen on dark, too
CHANCE = 0.95  # of the worst error: a point above it says hardly more than that everything was pruned


def trade_off(report: Report) -> str:
    """Error over kept parameters, a dot a point in the colour of its MACs; empty where the run has no front."""
    found = report.trade_off
    if found is None or not found.points:
        return ""
    colour = _colours(_useful(found))
    with canvas("trade-off", "error against kept parameters, coloured by multiply-accumulates") as (axes, render):
        dense = axes.axhline(_height(report, found.dense), color=MUTED, linestyle=":")
        _staircase(axes, report, found, MUTED)
        for point in found.points:
            (dot,) = axes.plot(point.params, _height(report, point), "o", color=colour(point), **DOT)
            tip(dot, _words(report, point))
        shown = _levels(_useful(found))
        handles = [_key(axes, colour(point)) for point in shown]
        _scales(axes, report, [found])
        legend(axes, [*handles, dense], [*(f"{wording.short(point.macs)} MACs" for point in shown), "dense net"])
        return render()


def fronts(reports: Mapping[str, Report]) -> str:
    """The fronts of several runs, a staircase a run; empty where none has one."""
    having = {name: report.trade_off for name, report in reports.items() if report.trade_off}
    having = {name: found for name, found in having.items() if found.points}
    if not having:
        return ""
    with canvas("fronts", "error against kept parameters, a staircase a run", 7.6, 4.2) as (axes, render):
        handles = []
        for index, (name, found) in enumerate(having.items()):
            colour, report = SERIES[index % len(SERIES)], reports[name]
            handles.append(_staircase(axes, report, found, colour))
            for point in trades.staircase(found):
                (dot,) = axes.plot(point.params, _height(report, point), "o", color=colour, markersize=4)
                tip(dot, f"{name}: {_words(report, point)}")
        _scales(axes, reports[next(iter(having))], list(having.values()))
        legend(axes, handles, list(having))
        return render()


def _staircase(axes: Any, report: Report, found: TradeOff, colour: str) -> Any:
    """The least error with at most so many parameters."""
    best = trades.staircase(found)
    heights = [_height(report, point) for point in best]
    return axes.step([p.params for p in best], heights, where="post", color=colour, linewidth=1.2)[0]


def _height(report: Report, point: TradePoint) -> float:
    return (100.0 if report.measure == "error" else 1.0) * point.error


def _words(report: Report, point: TradePoint) -> str:
    layers = zip(report.layers, point.kept, strict=False)
    kept = ", ".join(f"{layer.name} {wording.share(count, layer.size)}" for layer, count in layers)
    size = f"{point.params:,} parameters, {point.macs:,} MACs, {wording.size(point.bytes)}"
    return f"{wording.measured(report, point.error)}: {size}; kept: {kept}"


def _colours(points: Sequence[TradePoint]) -> Any:
    """A function from a point to its colour: logarithmic, from the fewest MACs to the most."""
    import matplotlib

    logs = np.log([max(point.macs, 1) for point in points])
    least, span = logs.min(), max(np.ptp(logs), 1e-9)
    shade = matplotlib.colormaps["plasma"]
    return lambda point: shade(0.2 + 0.65 * np.clip((np.log(max(point.macs, 1)) - least) / span, 0, 1))


def _useful(found: TradeOff) -> Sequence[TradePoint]:
    """The points that err less than chance; all where these are too few to draw."""
    worst = max(point.error for point in found.points)
    useful = [point for point in found.points if point.error < CHANCE * worst]
    return useful if len(useful) > 1 else found.points


def _levels(points: Sequence[TradePoint]) -> list[TradePoint]:
    """Those with the fewest, the middle and the most MACs, as keys to the colours."""
    ordered = sorted({point.macs: point for point in points}.values(), key=lambda point: point.macs)
    return [ordered[at] for at in sorted({0, len(ordered) // 2, len(ordered) - 1})]


def _key(axes: Any, colour: Any) -> Any:
    return axes.plot([], [], "o", color=colour, **DOT)[0]


def _scales(axes: Any, report: Report, found: Sequence[TradeOff]) -> None:
    """Parameters in powers of ten; errors too, but linear below one calibration example where some have none.

    The picture begins where points become useful.
    """
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    points = [point for entry in found for point in (*_useful(entry), entry.dense)]
    count_scale(axes, [point.params for point in points])
    heights = floats([_height(report, point) for point in points])
    value_scale(axes, heights)
    if report.measure == "error" and heights.min() <= 0 < heights.max():
        one = 100 / max(entry.examples for entry in found)
        axes.set_yscale("symlog", linthresh=one, linscale=0.4)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=one, subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(bottom=-0.3 * one)
    unit = ", %" if report.measure == "error" else ""
    axes.set(xlabel="kept parameters", ylabel=f"calibration {report.measure}{unit}")
