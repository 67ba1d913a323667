"""The ways to a smaller network as rows: what each one is, keeps, spends and took; for every kind of page."""

from __future__ import annotations

from jax_prune.report import wording
from jax_prune.report.schema import Report, Spending, Way

UNIT = {"latency": "a call"}


def explanation(report: Report) -> str:
    """What the limits are, and what the columns mean."""
    limits = {(entry.cost, entry.target): entry for way in report.ways for entry in way.spending}
    said = [
        f"{'Target' if target else 'Bound'}: {amount(entry.limit, cost)} {UNIT.get(cost, cost)}, "
        f"{wording.share(entry.limit, entry.whole)} of the dense net's."
        for (cost, target), entry in limits.items()
    ]
    return " ".join(
        [
            *said,
            *_latency(report),
            "Steps: of all training, the dense one included; time: of all that led to it, scoring and search too.",
        ]
    )


def columns(report: Report) -> list[tuple[str, list[str]]]:
    """The columns beside the ways' names: head and one cell a way; a column without any number is left out."""
    dense, ways = report.dense, report.ways
    limits = list(dict.fromkeys((entry.cost, entry.target) for way in ways for entry in way.spending))
    batches = list(dict.fromkeys(batch for way in ways for batch in way.network.seconds))
    found = [
        (f"validation {report.measure}", [wording.measured(report, way.network.validation_error) for way in ways]),
        (f"test {report.measure}", [wording.measured(report, way.network.error) for way in ways]),
        ("MACs", [kept(way.network.macs, dense.macs) for way in ways]),
        ("parameters", [kept(way.network.params, dense.params) for way in ways]),
        *((_head(*limit), [_spending(way, limit[0]) for way in ways]) for limit in limits),
        *((f"call of {batch}", [wording.milliseconds(way.network.seconds.get(batch)) for way in ways])
          for batch in batches),
        ("steps", [wording.count(way.network.steps) for way in ways]),
        ("time", [wording.DASH if way.seconds is None else wording.duration(way.seconds) for way in ways]),
    ]  # fmt: skip
    return [(head, cells) for head, cells in found if set(cells) != {wording.DASH}]


def table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows: one way a row, the chosen one first."""
    shown = columns(report)
    head = ("way", *(head for head, _ in shown))
    return head, [(wording.allocator(way.name), *(cells[row] for _, cells in shown))
                  for row, way in enumerate(report.ways)]  # fmt: skip


def groups(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows: how many units of every group each way keeps, where there are several; a dagger has no gates."""
    if len(report.ways) < 2:
        return (), []
    head = ("group", "before", *(wording.allocator(way.name) for way in report.ways))
    rows = [
        (layer.name, wording.count(layer.size), *(_kept(way, place, layer.name) for way in report.ways))
        for place, layer in enumerate(report.layers)
    ]
    return head, rows


def ungated(report: Report) -> list[str]:
    """A sentence for every group that had no gates, with the ways that it stayed whole for, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for way in report.ways:
        for group, reason in way.ungated.items():
            reasons.setdefault((group, reason), []).append(wording.allocator(way.name))
    return [f"{group} had no gates for {' and '.join(names)} and stayed whole there: {reason}"
            for (group, reason), names in reasons.items()]  # fmt: skip


def kept(part: int | None, whole: int | None) -> str:
    """A count, and its share of the dense network's."""
    if part is None or not whole:
        return wording.count(part)
    return f"{wording.count(part)} ({wording.share(part, whole)})"


def amount(value: float, cost: str) -> str:
    """What is spent of a cost, in its unit."""
    return wording.milliseconds(value) if cost == "latency" else wording.count(int(value))


def _latency(report: Report) -> list[str]:
    """What the chosen network was predicted to take, and took."""
    model, way = report.latency, report.ways[0] if report.ways else None
    spent = next((entry for entry in way.spending if entry.cost == "latency"), None) if way else None
    if model is None or way is None or spent is None:
        return []
    batch = str(model.batch)
    measured = [wording.milliseconds(side.seconds.get(batch)) for side in (way.network, report.dense)]
    predicted = [wording.milliseconds(value) for value in (spent.spent, spent.whole)]
    return [
        f"A call of {batch} by {wording.allocator(way.name)}: predicted {predicted[0]}, measured {measured[0]} (dense "
        f"{predicted[1]} and {measured[1]}). The model is of {model.networks} networks; each is predicted from the "
        f"others to {100 * model.error:.0f} % in the mean."
    ]


def _head(cost: str, target: bool) -> str:
    foretold = " (predicted)" if cost == "latency" else ""
    return f"{'target' if target else 'bound'} of {cost}{foretold}"


def _spending(way: Way, cost: str) -> str:
    """The share of the limit that is spent."""
    entry: Spending | None = next((entry for entry in way.spending if entry.cost == cost), None)
    if entry is None:
        return wording.DASH
    return wording.share(entry.spent, entry.limit)


def _kept(way: Way, place: int, group: str) -> str:
    return wording.count(way.kept[place]) + ("†" if group in way.ungated else "")
