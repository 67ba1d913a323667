"""A run's trade-off as steps: the least error at so many parameters, in numbers and in words."""

from __future__ import annotations

from jax_prune.report import wording
from jax_prune.report.schema import Report, TradeOff, TradePoint

HEAD = ("parameters", "compression", "MACs", "bytes", "error")


def staircase(found: TradeOff) -> list[TradePoint]:
    """The points with less error than all that keep no more parameters, in ascending order of these."""
    best: list[TradePoint] = []
    for point in sorted(found.points, key=lambda point: (point.params, point.error)):
        if not best or point.error < best[-1].error:
            best.append(point)
    return best


def rows(report: Report, most: int = 8) -> list[tuple[str, ...]]:
    """At most so many steps of the staircase, evenly along it: parameters, compression, MACs, bytes, error."""
    if report.trade_off is None or not report.trade_off.points:
        return []
    best, dense = staircase(report.trade_off), report.trade_off.dense
    at = sorted({round(step * (len(best) - 1) / max(most - 1, 1)) for step in range(most)})
    return [
        (
            wording.count(p.params),
            wording.times(dense.params / max(p.params, 1)),
            wording.count(p.macs),
            wording.size(p.bytes),
            wording.measured(report, p.error),
        )
        for p in (best[index] for index in at)
    ]
