"""Matplotlib figures as inline SVG whose colours follow the page's light or dark theme.

A figure is drawn in stand-in colours, each of which becomes a CSS variable in the SVG text, with the
light theme's colour as the fallback for a viewer without the page.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jax_prune.report import wording

# CSS variable -> its colour in the light theme; the dark one's are in style.py.
LIGHT = {
    "ink": "#1b2330",
    "muted": "#667085",
    "line": "#dfe3ea",
    "series-0": "#2f6fed",
    "series-1": "#e8743b",
    "series-2": "#1a9e77",
    "series-3": "#8a5cd6",
    "series-4": "#d6457a",
    "series-5": "#0e9fb8",
    "series-6": "#b78a00",
    "series-7": "#64748b",
}
STAND_IN = {name: f"#fe00{index:02x}" for index, name in enumerate(LIGHT)}
TIP = "tip: "  # before a group id that is to become a tooltip
INK, MUTED, LINE = (STAND_IN[name] for name in ("ink", "muted", "line"))
SERIES = tuple(STAND_IN[f"series-{index}"] for index in range(8))

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # real text: it takes the page's font, can be searched and copied
    "text.parse_math": False,  # a layer named a$b$ is a name, not a formula
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def available() -> bool:
    """Whether matplotlib, of the report extra, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def canvas(name: str, label: str, width: float = 5.0, height: float = 3.1) -> Iterator[tuple[Any, Callable]]:
    """Axes, and a function that renders them to SVG text; ``name`` keeps ids of one page's SVGs apart."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.tick_params(length=0)
        yield axes, lambda: _svg(figure, label)


def tip(artist: Any, text: str) -> None:
    """Shows ``text`` where the pointer rests on the artist."""
    artist.set_gid(TIP + text)


def _svg(figure: Any, label: str) -> str:
    from xml.sax.saxutils import quoteattr

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(rf'<g id="{TIP}([^"]*)"[^>]*>', r"<g><title>\1</title>", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # group ids repeat from figure to figure, none is referred to
    text = re.sub(r"font: (?:\S+ )*?([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for variable, colour in STAND_IN.items():
        text = text.replace(colour, f"var(--{variable}, {LIGHT[variable]})")
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(label)} ', 1).strip()


def legend(axes: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend above the axes, in the order given, line by line.

    Entries are shortened, and a leading underscore is no reason to vanish.
    """
    shown = ["\u200b" + shorten(label) for label in labels]
    longest = max(map(len, shown), default=0)
    columns = 3 if longest <= 17 else 2 if longest <= 24 else 1
    order = [index for column in range(columns) for index in range(column, len(shown), columns)]  # it fills columns
    axes.legend(
        [handles[index] for index in order],
        [shown[index] for index in order],
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.4,
    )


def shorten(label: str, most: int = 24) -> str:
    """The label, with its middle left out where it is long: both ends of a path tell layers apart."""
    half = most // 2
    return label if len(label) <= most else f"{label[: half - 1]}…{label[-half:]}"


def floats(values: Sequence[float | None]) -> np.ndarray:
    """float64 array with NaN for what is missing: a gap in the line."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def value_scale(axes: Any, values: np.ndarray) -> None:
    """A log scale with plain tick labels where all values are positive and spread, else a linear one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    finite = values[np.isfinite(values)]
    spread = finite.size and finite.min() > 0 and finite.max() / finite.min() > 4
    if spread:
        axes.set_yscale("log")
        times = finite.max() / finite.min()
        steps = (1.0,) if times > 60 else (1.0, 2.0, 5.0) if times > 8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def count_scale(axes: Any, counts: Sequence[int]) -> None:
    """A log x axis over counts, with ticks in short: 3k, 1M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    positive = [max(count, 1) for count in counts]
    times = max(positive) / min(positive)
    axes.set_xscale("log")
    margin = max(times, 2) ** 0.04
    axes.set_xlim(min(positive) / margin, max(positive) * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if times > 1e3 else (1.0, 3.0) if times > 30 else (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.short(value)))


def whole_numbers(axes: Any) -> None:
    """Ticks of the x axis at whole numbers, thousands separated."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
