"""The page's boxes of results: layers, pictures, allocators; each is nothing where the run has no numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jax_prune.report import correlation, drawing, figures, search_figures, trade_figures, trades, ways, wording
from jax_prune.report.markup import Cell, Html, bar, join, keys, pair, paragraph, picture, section, table
from jax_prune.report.schema import Layer, Report, Search


def layers(report: Report) -> Html:
    """Every group before and after, with a bar of what is kept and how many connections came back."""
    if not report.layers:
        return Html("")
    total = Layer("all groups", sum(g.size for g in report.layers), sum(g.kept for g in report.layers), 0.0)
    total = replace(total, ratio=1 - total.kept / max(total.size, 1))
    rows: list[tuple[Any, ...]] = [_layer_row(layer) for layer in (*report.layers, total)]
    head: tuple[str, ...] = ("group", "before", "after", "", "kept", "ratio")
    explanation = "Units of each group before and after; ratio is the share removed."
    came_back = wording.returned_by_layer(report)
    if came_back:
        rows = [(*row, wording.count(n)) for row, n in zip(rows, (*came_back, sum(came_back)), strict=True)]
        head = (*head, "returned")
        explanation += " Returned: connections that had been pruned and came back, summed over the rounds."
    return section("Layers", explanation, table(head, rows, {len(report.layers): "total"}))


def _layer_row(layer: Layer) -> tuple[Any, ...]:
    share, ratio = wording.share(layer.kept, layer.size), f"{layer.ratio:.4f}"
    filled = bar(layer.kept / max(layer.size, 1))
    return (layer.name, wording.count(layer.size), wording.count(layer.kept), filled, share, ratio)


def way_tables(report: Report) -> Html:
    """Every way with its errors, sizes, limits and efforts; what each keeps of the groups, and what had no gates."""
    head, rows = ways.table(report)
    wrapped = [Cell(entry, "wrap") for entry in head]
    by_group, ungated = table(*ways.groups(report)), ways.ungated(report)
    dagger = " † had no gates." if by_group and ungated else ""
    reasons = join(paragraph(f"{line}.", "muted small") for line in ungated)
    return join(
        (
            section("Ways", ways.explanation(report), table(wrapped, rows), "" if by_group else reasons),
            section(
                "Kept by group", f"Units before, and after each way.{dagger}", by_group, reasons if by_group else ""
            ),
        )
    )


def pictures(report: Report) -> list[Html]:
    """Every picture in its box; those without numbers are nothing."""
    search = report.search
    objective = search.objective if search else ""
    ours = {f"{search.algorithm if search else ''}": "series-0"}
    if search and search.random_history:
        ours["random search"] = "series-1"
    panels = search_figures.convergence(report)
    return [
        pair(
            section(
                "Error by round",
                "On the validation split, before and after each round's tuning.",
                picture(figures.error_by_round(report)),
            ),
            section(
                "Validation over training",
                "After each round's tuning; all steps count, the dense nets' too.",
                picture(figures.training(report)),
            ),
        ),
        section(
            "Search",
            f"Best {objective} so far (upwards, logarithmic where it spans much) against evaluations.{_effort(report)}",
            keys(ours) if panels else "",
            picture(panels, "panels"),
        ),
        pair(
            section(
                "Sensitivity",
                "Only one layer pruned at a time, no tuning. Dots: upper bounds of the search.",
                picture(search_figures.sensitivity(report)),
            ),
            section(
                "Allocations at equal budget",
                "Loss of each one's layer-wise counts before tuning, over the search's where there was one.",
                picture(figures.baselines(report)),
            ),
        ),
        pair(
            section(
                "Returned connections",
                "Kept connections that had been pruned before the round's tuning.",
                picture(figures.returned(report)),
            ),
            section(
                "Whole pipeline by allocator",
                "Final errors, a dot a seed, the bar at the mean.",
                picture(figures.outcomes(report)),
            ),
        ),
    ]


def _effort(report: Report) -> str:
    search = report.search
    if search is None:
        return ""
    generations = f" over {search.generations} generations" if search.generations else ""
    known = [share for share in search.work if share is not None]
    who = "Early decisions" if len(search.fidelity) == 1 else "Early decisions and scores on part of the data"
    saved = len(known) - sum(known)
    verb = "saved" if saved >= 0 else "added"  # to score a population anew costs more than few generations save
    worked = f" {who} {verb} {wording.share(abs(saved), len(known))} of the work." if known else ""
    effort = f" {search.evaluations:,} evaluations a round, population {search.population}{generations}."
    return f"{effort}{worked}{_differed(search)}{_again(search)}"


def _differed(search: Search) -> str:
    """What evaluating dropped trials whole came to, or nothing."""
    audit = search.audit
    if audit is None:
        return ""
    winners = max(audit.accepted + audit.differed, 1)
    lost = f"{wording.share(audit.differed, winners)} of all that would"
    allowed = f", where confidence {audit.confidence:g} allows {100 * (1 - audit.confidence):.2g} %"
    stated = allowed if search.race == "paired" else ""
    return f" Of {audit.dropped:,} trials dropped early {audit.differed:,} would have won: {lost}{stated}."


def _again(search: Search) -> str:
    """What scoring the best few in float32 came to, or nothing."""
    if not search.changed:
        return ""
    rounds = f"{sum(search.changed)} of {len(search.changed)} rounds"
    return f" Products in {search.precision}; the best few, scored again in float32, had another winner in {rounds}."


def trade_off(report: Report) -> Html:
    """What the dense net offered before any tuning: the front as a picture, and some of it as a table."""
    found = report.trade_off
    if found is None:
        return Html("")
    return pair(
        section(
            "Trade-off",
            f"The trained dense net, masked, on {found.examples:,} calibration examples; no tuning. No vector of "
            f"{found.evaluations:,} beats one of these {len(found.points)} in error, parameters and MACs. The line: "
            "least error at so many parameters. Rest on a dot for its layers.",
            picture(trade_figures.trade_off(report) if drawing.available() else ""),
        ),
        section(
            "Along the line",
            "Bytes are those of the packed leaves, before compression.",
            table(trades.HEAD, trades.rows(report)),
        ),
    )


def baseline_table(report: Report) -> Html:
    """Losses of every allocation by round, the lowest marked."""
    losses, rounds = report.baselines.losses, report.rounds
    rows = []
    for index, entry in enumerate(rounds if losses else ()):
        values = [row[index] if index < len(row) else None for row in losses.values()]
        known = [value for value in values if value is not None]
        cells = [Cell(wording.loss(value), "best" if known and value == min(known) else "") for value in values]
        rows.append((f"round {entry.round}", wording.count(entry.kept), *cells))
    head = ("", "kept", *(wording.allocator(name) for name in losses))
    return section(
        "Loss by allocation",
        "The lowest of each round stands out. Same budget, no tuning; global score: the ranking's, over all layers.",
        table(head, rows),
    )


def outcome_table(report: Report) -> Html:
    """Final errors of every allocator over the seeds, and whether the loss before tuning foretold them."""
    if report.ways:  # their table says as much of each
        return Html("")
    head = ("allocator", "seeds", "mean", "spread", "least", "most")
    rows = [(wording.allocator(o.allocator), o.seeds, *o.worded) for o in wording.outcome_rows(report)]
    outcomes = section(
        "Allocators, whole pipeline",
        f"Final {report.measure} with the same tuning and seeds; spread is the standard deviation.",
        table(head, rows),
    )
    foretold = section(
        "Loss before tuning, error after",
        correlation.sentence(report),
        picture(figures.before_and_after(report)) if drawing.available() else "",
    )
    return pair(foretold, outcomes) if foretold else outcomes
