"""Pictures of rounds, training and allocators: each Report -> SVG text, empty where numbers are absent."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from jax_prune.report import correlation, wording
from jax_prune.report.drawing import INK, MUTED, SERIES, canvas, floats, legend, value_scale, whole_numbers
from jax_prune.report.schema import Point, Report


def error_by_round(report: Report) -> str:
    """Validation error of every round, before and after tuning, and the dense reference's."""
    if not any(entry.validation_error is not None for entry in report.rounds):
        return ""
    scale, unit = _measure(report)
    after = scale * floats([entry.validation_error for entry in report.rounds])
    before = scale * floats([entry.validation_error_before_tuning for entry in report.rounds])
    reference = report.dense.validation_error
    with canvas("error by round", f"validation {report.measure} by round") as (axes, render):
        handles = axes.plot(after, "o-", color=SERIES[0], markersize=5)
        labels, values = ["after tuning"], np.concatenate([after, before])
        if np.isfinite(before).any():
            handles += axes.plot(before, "o--", color=SERIES[1], markersize=4, linewidth=1.2)
            labels.append("before tuning")
        if reference is not None:
            handles.append(axes.axhline(scale * reference, color=MUTED, linestyle=":"))
            labels, values = [*labels, "dense reference"], np.append(values, scale * reference)
        value_scale(axes, values)
        _round_ticks(axes, report)
        axes.set(ylabel=f"validation {report.measure}{unit}")
        legend(axes, handles, labels)
        return render()


def training(report: Report) -> str:
    """Validation error over training, one line a stage; the rounds of tuning follow one another."""
    points = [point for point in report.history if point.validation_error is not None]
    if len(points) < 2:
        return ""
    scale, unit = _measure(report)
    with canvas("training", f"validation {report.measure} over training") as (axes, render):
        handles, labels = [], list(dict.fromkeys(point.stage for point in points))
        for index, stage in enumerate(labels):
            own = [point for point in points if point.stage == stage]
            errors = scale * floats([point.validation_error for point in own])
            colour = SERIES[index % len(SERIES)]
            handles += axes.plot(_steps(own), errors, "o-", color=colour, linewidth=1.5, markersize=4)
        value_scale(axes, scale * floats([point.validation_error for point in points]))
        whole_numbers(axes)
        axes.set(xlabel="training step", ylabel=f"validation {report.measure}{unit}")
        legend(axes, handles, labels)
        return render()


def _steps(points: list[Point]) -> list[int]:
    """Steps that go on over rounds, also where each round counts from zero."""
    steps: list[int] = []
    base = last = 0
    for _, group in groupby(points, key=lambda point: point.round):
        own = [point.step for point in group]
        base = last if steps and own[0] <= last - base else base
        steps += [base + step for step in own]
        last = steps[-1]
    return steps


def baselines(report: Report) -> str:
    """Loss of every allocation at the round's budget before tuning, over the search's own if there is one."""
    losses = {name: floats(row) for name, row in report.baselines.losses.items()}
    losses = {name: row for name, row in losses.items() if np.isfinite(row).any()}
    if not losses:
        return ""
    ours = losses.get("search")
    # Losses grow tenfold over the rounds, allocators differ by tenths: only the quotient shows both.
    relative = ours is not None and bool((ours[np.isfinite(ours)] > 0).all())
    if relative:
        losses = {name: row / ours for name, row in losses.items()}
    with canvas("baselines", "loss of each allocation at the same budget") as (axes, render):
        handles = []
        for name, row in losses.items():
            thick = 2.4 if name == "search" else 1.4
            handles += axes.plot(row, "o-", color=_colour(report, name), markersize=2 + thick, lw=thick)
        value_scale(axes, np.concatenate(list(losses.values())))
        _round_ticks(axes, report)
        axes.set(ylabel="loss / loss of the search" if relative else "loss before tuning")
        legend(axes, handles, [wording.allocator(name) for name in losses])
        return render()


def outcomes(report: Report) -> str:
    """Final errors of every allocator carried through the whole pipeline: a dot a seed, a bar at the mean."""
    entries = [entry for entry in report.baselines.outcomes if entry.error is not None]
    if not entries:
        return ""
    names = list(dict.fromkeys(entry.allocator for entry in entries))
    scale, unit = _measure(report)
    height = 0.9 + 0.42 * len(names)
    with canvas("outcomes", f"final {report.measure} by allocator", height=height) as (axes, render):
        for row, name in enumerate(names):
            errors = scale * floats([entry.error for entry in entries if entry.allocator == name])
            colour = _colour(report, name)
            axes.plot(errors, [row] * len(errors), "o", color=colour, alpha=0.55, markeredgewidth=0)
            axes.plot([errors.mean()] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2)
        axes.set_yticks(range(len(names)), [wording.allocator(name) for name in names])
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"final {report.measure}{unit}")
        axes.grid(axis="y", visible=False)
        return render()


def before_and_after(report: Report) -> str:
    """Validation error after the last round's tuning over the loss before it: a dot an allocation and seed."""
    known = report.baselines.correlations
    if not known:
        return ""
    entries = correlation.of_round(report.baselines.tuned, known[-1].round)
    names = list(dict.fromkeys(entry.allocator for entry in entries))
    scale, unit = _measure(report)
    with canvas("before and after", f"validation {report.measure} after tuning against loss before") as (axes, render):
        handles = []
        for name in names:
            own = [entry for entry in entries if entry.allocator == name]
            errors = scale * floats([entry.error for entry in own])
            handles += axes.plot([entry.loss for entry in own], errors, "o", color=_colour(report, name), markersize=7)
        value_scale(axes, scale * floats([entry.error for entry in entries]))
        axes.set(xlabel="loss before tuning, calibration data", ylabel=f"validation {report.measure} after{unit}")
        axes.margins(0.08)
        axes.locator_params(axis="x", nbins=6)
        legend(axes, handles, [wording.allocator(name) for name in names])
        return render()


def _colour(report: Report, allocator: str) -> str:
    """One colour an allocator, the same in every picture of the report."""
    carried = [entry.allocator for entry in report.baselines.outcomes]
    entries = [*report.baselines.losses, *carried, *(entry.allocator for entry in report.baselines.tuned)]
    return SERIES[list(dict.fromkeys(entries)).index(allocator) % len(SERIES)]


def returned(report: Report) -> str:
    """Share of a layer's kept connections that had been pruned and came back, by round."""
    rounds = [entry for entry in report.rounds if entry.returned and entry.layers_kept]
    if not rounds:
        return ""
    names = [layer.name for layer in report.layers]
    share = np.array([100 * np.array(r.returned) / np.maximum(r.layers_kept, 1) for r in rounds])
    whole = [100 * sum(entry.returned) / max(sum(entry.layers_kept), 1) for entry in rounds]
    at = [report.rounds.index(entry) for entry in rounds]
    with canvas("returned", "returned connections by layer and round") as (axes, render):
        rows = share.T if share.shape[1] <= len(SERIES) else share.T[:0]
        handles = [axes.plot(at, row, "o-", color=SERIES[g], markersize=4)[0] for g, row in enumerate(rows)]
        handles += axes.plot(at, whole, "o--", color=INK, markersize=4)
        axes.set_ylim(bottom=-0.03 * share.max())
        _round_ticks(axes, report)
        axes.set(ylabel="returned, % of kept")
        legend(axes, handles, [*names[: len(rows)], "whole network"])
        return render()


def _round_ticks(axes: Any, report: Report) -> None:
    every = 1 + (len(report.rounds) - 1) // 8
    shown = list(enumerate(report.rounds))[::-1][::every][::-1]  # the last round is always labelled
    axes.set_xticks([i for i, _ in shown], [f"{r.round}\n{wording.compression(report, r)}" for _, r in shown])
    axes.set_xlabel("round, compression of the prunable parameters")


def _measure(report: Report) -> tuple[float, str]:
    return (100.0, ", %") if report.measure == "error" else (1.0, "")
