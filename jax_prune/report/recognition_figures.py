"""Pictures of recognition: each Recognition -> SVG text, empty where the run has no such numbers.

A network has one colour in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from jax_prune.report import recognition_wording as words
from jax_prune.report import wording
from jax_prune.report.drawing import INK, LINE, MUTED, SERIES, canvas, count_scale, legend, shorten, tip
from jax_prune.report.recognition import Recognition, Rung

DARKEST = 0.58  # opacity of a cell for 100 %: ink on it stays readable, in the light theme and in the dark one
FEW = 8  # classes that fit half a page
CALL = "1"
ACCURACY = "accuracy, %"


def networks(found: Recognition) -> str:
    """Accuracy of every network: a dot a seed, a bar at the mean."""
    own = [entry for entry in found.networks if words.accuracies(entry.scored)]
    if not own:
        return ""
    with canvas("recognition networks", "accuracy of every network", height=_height(own)) as (axes, render):
        for row, entry in enumerate(own):
            values = [100 * value for value in words.accuracies(entry.scored)]
            colour = _colour(found, entry.name)
            (dots,) = axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.55, markeredgewidth=0)
            tip(dots, f"{entry.name}: {words.spread(words.accuracies(entry.scored))}")
            axes.plot([mean(values)] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2)
        axes.set_yticks(range(len(own)), [shorten(entry.name) for entry in own])
        axes.set(ylim=(len(own) - 0.4, -0.6), xlabel=ACCURACY)
        axes.grid(axis="y", visible=False)
        return render()


def confusion(found: Recognition) -> str:
    """Rows what is true, columns what was answered; cells by their share of the row, in percent."""
    names, shares = words.class_names(found), words.shares(found)
    if not names:
        return ""
    size, cell = len(names), 0.6 if len(names) <= FEW else 0.5
    long = max(len(shorten(name)) for name in names)
    with canvas("confusion", f"confusion matrix of {found.confused}",
                size * cell + 0.08 * long + 0.4, size * cell + 0.06 * long + 0.5) as (axes, render):  # fmt: skip
        for row, own in enumerate(shares):
            for column, share in enumerate(own):
                _cell(axes, row, column, share, _counted(found, row, column))
        axes.set_xticks(range(size), map(shorten, names), rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), map(shorten, names))
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="answered", ylabel="true")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return render()


def _cell(axes: Any, row: int, column: int, share: float, said: str) -> None:
    from matplotlib.patches import Rectangle

    # The root: confusions are a few percent, and those are what one looks for.
    opacity = DARKEST * (share / 100) ** 0.5
    box = axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SERIES[0], alpha=opacity, linewidth=0))
    frame = axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=LINE, linewidth=0.7))
    shown = [box, frame]
    if share:
        label = "100" if share == 100 else "<0.1" if share < 0.05 else f"{share:.1f}"
        shown.append(axes.text(column, row, label, ha="center", va="center", color=INK, fontsize=9.5))
    for artist in shown:
        tip(artist, said)


def _counted(found: Recognition, row: int, column: int) -> str:
    names, counts = words.class_names(found), found.confusion[row]
    whole = sum(counts)
    share = f" ({wording.share(counts[column], whole)})" if whole else ""
    return f"{names[row]}, answered {names[column]}: {counts[column]:,} of {whole:,} windows{share}"


def by_share(found: Recognition, way: str) -> str:
    """Accuracy against the share removed in one way, a line a pruned network."""
    return _ladders(found, way, f"{words.way(way)} removed, %", lambda rung: 100 * rung.removed)


def by_parameters(found: Recognition, way: str) -> str:
    """Accuracy against the parameters left by one way, a line a pruned network."""

    def scale(axes: Any, walks: Sequence[Sequence[Rung]]) -> None:
        count_scale(axes, [rung.params for walk in walks for rung in walk])

    return _ladders(found, way, "parameters", lambda rung: rung.params, scale)


def by_latency(found: Recognition) -> str:
    """Accuracy against the time of a call of one window: every dense network, and what became of it unit by unit."""
    timed = {own.name: _timed(_walk(found, own.name, "hidden")) for own in found.networks}
    timed = {name: walk for name, walk in timed.items() if walk}
    if not timed:
        return ""
    label = "accuracy against the time of a call of one window"
    with canvas("recognition latency", label, height=max(_height(found.networks), 3.1)) as (axes, render):
        handles = []
        for name, walk in timed.items():
            colour = _colour(found, name)
            _line(axes, walk, colour, lambda rung: 1e3 * rung.seconds[CALL])
            handles.append(axes.plot([], [], "D-" if len(walk) > 1 else "D", color=colour, markersize=6)[0])
            (dot,) = axes.plot(
                1e3 * walk[0].seconds[CALL], _percent(walk[0]), "D", color=colour, markersize=6, zorder=4
            )
            tip(dot, _said(walk[0]))
        axes.set(xlabel="milliseconds of a call of one window", ylabel=ACCURACY)
        axes.margins(0.06)
        legend(axes, handles, list(timed))
        return render()


def _ladders(
    found: Recognition, way: str, label: str, place: Callable[[Rung], float],
    scale: Callable[[Any, Sequence[Sequence[Rung]]], None] | None = None,
) -> str:  # fmt: skip
    walks = {name: _walk(found, name, way) for name in words.pruned(found) if words.rungs(found, name, way)}
    if not any(len(walk) > 1 for walk in walks.values()):
        return ""
    with canvas(f"{way} {label}", f"accuracy against {label}") as (axes, render):
        handles, labels = [], list(walks)
        for name, walk in walks.items():
            handles.append(_line(axes, walk, _colour(found, name), place))
            _seeds(axes, walk, _colour(found, name), place)
        longer = [own for name in walks if (own := words.longer(found, name)) and words.accuracies(own.scored)]
        for own in longer:
            line = axes.axhline(_percent(own), color=_colour(found, own.net), linestyle=":", linewidth=1.4)
            tip(line, _said(own))
        if longer:
            handles.append(axes.plot([], [], ":", color=MUTED)[0])
            labels.append(words.LONGER)
        axes.set(xlabel=label, ylabel=ACCURACY)
        if scale:
            scale(axes, list(walks.values()))
        legend(axes, handles, labels)
        return render()


def _walk(found: Recognition, name: str, way: str) -> list[Rung]:
    """A network from dense down one ladder, as far as it was scored."""
    dense = words.dense(found, name)
    walk = [*([dense] if dense else []), *words.rungs(found, name, way)]
    return [rung for rung in walk if words.accuracies(rung.scored)]


def _timed(walk: Sequence[Rung]) -> list[Rung]:
    return [rung for rung in walk if CALL in rung.seconds]


def _line(axes: Any, walk: Sequence[Rung], colour: str, place: Callable[[Rung], float]) -> Any:
    """Means, each dot saying what it is."""
    line = axes.plot([place(rung) for rung in walk], [_percent(rung) for rung in walk], color=colour)[0]
    for rung in walk:
        (dot,) = axes.plot(place(rung), _percent(rung), "o", color=colour, markersize=5.5, zorder=3)
        tip(dot, _said(rung))
    return line


def _seeds(axes: Any, walk: Sequence[Rung], colour: str, place: Callable[[Rung], float]) -> None:
    """From the worst seed to the best."""
    values = [[100 * value for value in words.accuracies(rung.scored)] for rung in walk]
    axes.fill_between([place(rung) for rung in walk], [min(own) for own in values], [max(own) for own in values],
                      color=colour, alpha=0.16, linewidth=0)  # fmt: skip


def _said(rung: Rung) -> str:
    what = f"{words.removed(rung)} removed" if rung.removed else rung.way
    took = f", {wording.milliseconds(rung.seconds[CALL])}" if CALL in rung.seconds else ""
    return f"{rung.net}, {what}: {words.spread(words.accuracies(rung.scored))}, {rung.params:,} parameters{took}"


def _height(own: Sequence[Any]) -> float:
    """Inches for a row a network; the same beside it, where networks are a legend."""
    return 0.9 + 0.36 * len(own)


def _percent(rung: Rung) -> float:
    return 100 * mean(words.accuracies(rung.scored))


def _colour(found: Recognition, name: str) -> str:
    known = [own.name for own in found.networks]
    return SERIES[known.index(name) % len(SERIES)] if name in known else MUTED
