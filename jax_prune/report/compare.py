"""Several runs side by side: one table in Markdown, one page with their errors over compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jax_prune.report import drawing, markup, trade_figures, trades, wording
from jax_prune.report import text as markdown_text
from jax_prune.report.drawing import SERIES, canvas, floats, legend, value_scale
from jax_prune.report.schema import Report

FRONTS = "Least calibration error of each trained dense net at so many kept parameters, before any tuning"
HEAD = (
    "run", "net (study)", "data", "seed", "dense", "pruned", "parameters", "MACs", "weights", "all", "size", "time",
)  # fmt: skip


def load(folders: Sequence[str | Path]) -> dict[str, Report]:
    """Reports of these workdirs or files, named by the shortest path endings that differ; raises BadInput."""
    paths = [Path(folder) for folder in folders]
    files = [path / "report.json" if path.is_dir() or path.suffix != ".json" else path for path in paths]
    reports = [Report.from_json(file) for file in files]
    parts = [path.resolve().parts for path in paths]
    depth = next((n for n in range(1, 20) if len({entry[-n:] for entry in parts}) == len(set(parts))), 1)
    return {"/".join(entry[-depth:]): report for entry, report in zip(parts, reports, strict=True)}


def markdown(reports: Mapping[str, Report]) -> str:
    """A table with a row a run: net, test errors, parameters, MACs, compression, size and time; then the fronts."""
    fronts = markdown_text.table(("run", *trades.HEAD), _fronts(reports))
    titled = f"\n## {FRONTS}\n\n{fronts}\n" if fronts else ""
    return f"{markdown_text.table(HEAD, _rows(reports))}\n{titled}"


def html(reports: Mapping[str, Report]) -> str:
    """A self-contained page: the same table and, with matplotlib, the overlay."""
    title = f"Comparison of {len(reports)} runs"
    pictures = [draw(reports) if drawing.available() else "" for draw in (overlay, trade_figures.fronts)]
    rounds, fronts = (markup.picture(svg, "picture wide") for svg in pictures)
    return markup.document(
        title,
        markup.Html(f"<header><h1>{title}</h1></header>"),
        markup.section(
            "Runs",
            "Errors are on the test split where it was read. Parameters and MACs: dense => pruned, of kept weights.",
            markup.table(HEAD, [(run, markup.Cell(net, "wrap"), *rest) for run, net, *rest in _rows(reports)]),
        ),
        markup.section(
            "Error over compression",
            "Rounds on the validation split; a ring marks the test error at the "
            "end. Compression of the prunable parameters; where whole channels go, of all.",
            rounds,
        ),
        markup.section(
            "Trade-offs",
            f"{FRONTS}. Rest on a dot for its counts.",
            fronts,
            markup.table(("run", *trades.HEAD), _fronts(reports)),
        ),
    )


def overlay(reports: Mapping[str, Report]) -> str:
    """Validation error of every round, or at the end, against compression, a line a run: SVG text, or nothing."""
    lines = {name: _line(report) for name, report in reports.items()}
    lines = {name: line for name, line in lines.items() if line[0]}
    if not lines:
        return ""
    with canvas("overlay", "error against compression", 7.6, 4.2) as (axes, render):
        handles, everything = [], []
        for index, (name, (factors, errors)) in enumerate(lines.items()):
            colour, report = SERIES[index % len(SERIES)], reports[name]
            handles += axes.plot(factors, errors, "o-", color=colour, markersize=4)
            if report.pruned.error is not None:
                axes.plot(
                    factors[-1:],
                    [_scale(report) * report.pruned.error],
                    "o",
                    color=colour,
                    markersize=9,
                    fillstyle="none",
                )
            everything += errors
        axes.set_xscale("log")
        _factor_ticks(axes)
        value_scale(axes, floats(everything))
        axes.set(xlabel="compression", ylabel="error, %" if _alike(reports) else "error")
        legend(axes, handles, list(lines))
        return render()


def write(folders: Sequence[str | Path], folder: str | Path) -> tuple[Path, Path]:
    """Write compare.md and compare.html into ``folder``; returns both paths; raises BadInput."""
    from jax_prune import storage

    reports, target = load(folders), Path(folder)
    storage.write_text(target / "compare.md", markdown(reports))
    storage.write_text(target / "compare.html", html(reports))
    return target / "compare.md", target / "compare.html"


def _rows(reports: Mapping[str, Report]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{wording.net(r)} ({r.study})",
            wording.data_line(r),
            str(r.seed),
            wording.measured(r, r.dense.error),
            wording.measured(r, r.pruned.error),
            wording.change(r.dense.params, r.pruned.params),
            wording.change(r.dense.macs, r.pruned.macs),
            wording.times(r.compression.weights),
            wording.times(r.compression.all),
            wording.size(r.pruned.bytes),
            wording.duration(sum(r.seconds.values())),
        )
        for name, r in reports.items()
    ]


def _fronts(reports: Mapping[str, Report]) -> list[tuple[str, ...]]:
    return [(name, *row) for name, report in reports.items() for row in trades.rows(report)]


def _line(report: Report) -> tuple[list[float], list[float]]:
    size = sum(layer.size for layer in report.layers)
    points = [
        (size / entry.kept, _scale(report) * entry.validation_error)
        for entry in report.rounds
        if entry.kept and entry.validation_error is not None
    ]
    if not points and report.compression.all and report.pruned.validation_error is not None:
        points = [(report.compression.all, _scale(report) * report.pruned.validation_error)]
    return [x for x, _ in points], [y for _, y in points]


def _scale(report: Report) -> float:
    return 100.0 if report.measure == "error" else 1.0


def _alike(reports: Mapping[str, Report]) -> bool:
    return all(report.measure == "error" for report in reports.values())


def _factor_ticks(axes: object) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis  # type: ignore[attr-defined]
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
