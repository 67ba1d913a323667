"""Does the loss before tuning say what the error after it will be? Spearman's rank correlation over allocations."""

from __future__ import annotations

from collections.abc import Sequence

from jax_prune.report import wording
from jax_prune.report.schema import Correlation, Report, Tuned

LEAST = 4  # points: fewer ranks say nothing


def rank_correlation(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Spearman's rho; None for fewer than LEAST pairs, or where either side is all alike."""
    if len(before) < LEAST or len(set(before)) == 1 or len(set(after)) == 1:
        return None
    from scipy.stats import spearmanr  # takes a second, and the report is read without it

    return float(spearmanr(before, after).statistic)


def correlations(tuned: Sequence[Tuned]) -> tuple[Correlation, ...]:
    """Of every round with at least LEAST allocations that have both numbers: those of one round share a budget."""
    found = []
    for number in sorted({entry.round for entry in tuned}):
        pairs = [(entry.loss, entry.error) for entry in of_round(tuned, number)]
        if len(pairs) >= LEAST:
            found.append(Correlation(number, len(pairs), rank_correlation(*zip(*pairs, strict=True))))
    return tuple(found)


def of_round(tuned: Sequence[Tuned], number: int) -> list[Tuned]:
    """That round's entries that have both numbers."""
    return [entry for entry in tuned if entry.round == number and None not in (entry.loss, entry.error)]


def sentence(report: Report) -> str:
    """The last round's correlation in words, earlier ones after it; nothing where there is none."""
    if not report.baselines.correlations:
        return ""
    *earlier, last = report.baselines.correlations
    rounds = ", ".join(f"{_rho(entry)} in round {entry.round}" for entry in earlier)
    before = f" (earlier: {rounds})" if rounds else ""
    return (
        f"Spearman's rank correlation of an allocation's loss before the last round's tuning and its validation "
        f"{report.measure} after: {_rho(last)} over {last.points} allocations{before}."
    )


def _rho(entry: Correlation) -> str:
    return wording.DASH if entry.rho is None else f"{entry.rho:.2f}"
