"""Loops and branches: what a loop carries has the same units before and after every turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax_prune.pruning.tracing.labels import Axis, Value, fixed
from jax_prune.pruning.tracing.ledger import Ledger

Walk = Callable[[Ledger, Any, list[Value]], list[Value]]  # over a ClosedJaxpr
ControlRule = Callable[[Ledger, Any, list[Value], Walk], list[Value]]
STEPS = "the steps of a scan"


def scan(ledger: Ledger, equation: Any, values: list[Value], walk: Walk) -> list[Value]:
    params = equation.params
    first, body = params["num_consts"], params["jaxpr"]
    last = first + params["num_carry"]
    for value in values[last:]:
        ledger.freeze(value.axes[0], "scan runs along it")
    constants = values[:first]
    slices = [value._replace(axes=value.axes[1:]) for value in values[last:]]

    def turn(carry: list[Value]) -> list[Value]:
        return walk(ledger, body, [*constants, *carry, *slices])

    carry, results = _settled(ledger, turn, values[first:last], "scan")
    stacked = [value._replace(axes=(fixed(STEPS), *value.axes)) for value in results[len(carry) :]]
    return [*carry, *stacked]


def while_loop(ledger: Ledger, equation: Any, values: list[Value], walk: Walk) -> list[Value]:
    params = equation.params
    tests, middle = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    before = values[tests:middle]
    carry, _ = _settled(
        ledger, lambda carry: walk(ledger, params["body_jaxpr"], [*before, *carry]), values[middle:], "while"
    )
    walk(ledger, params["cond_jaxpr"], [*values[:tests], *carry])
    return carry


def cond(ledger: Ledger, equation: Any, values: list[Value], walk: Walk) -> list[Value]:
    """All branches run; what they give is one."""
    results = [walk(ledger, branch, values[1:]) for branch in equation.params["branches"]]
    return [
        joined._replace(data=joined.data or values[0].data)
        for joined in (_one(ledger, list(group), "cond") for group in zip(*results, strict=True))
    ]


def _settled(
    ledger: Ledger, turn: Callable[[list[Value]], list[Value]], carry: list[Value], name: str
) -> tuple[list[Value], list[Value]]:
    """The carry as it is after enough turns, joined with what the last one gave; and all that it gave."""
    while True:
        place = ledger.place()
        results = turn(carry)
        met = [_met(one, other) for one, other in zip(carry, results, strict=False)]
        if all(map(_alike, met, carry)):
            joined = [_one(ledger, [one, other], name) for one, other in zip(carry, results, strict=False)]
            return joined, results
        ledger.back_to(place)
        carry = met


def _met(one: Value, other: Value) -> Value:
    """What is known of both, without joining anything."""
    axes = []
    for place, (left, right) in enumerate(zip(one.axes, other.axes, strict=True)):
        zero = one.zero_along(place) and other.zero_along(place)
        units = left if left.ids is not None else right
        if units.ids is not None:
            axes.append(Axis(units.ids, zero))
        else:
            axes.append(left if left.what else right)
    return Value(tuple(axes), one.data or other.data, one.zero and other.zero)


def _one(ledger: Ledger, values: list[Value], name: str) -> Value:
    axes = tuple(
        ledger.join([value.axes[place] for value in values], name, all(value.zero_along(place) for value in values))
        for place in range(len(values[0].axes))
    )
    return Value(axes, any(value.data for value in values), all(value.zero for value in values))


def _alike(one: Value, other: Value) -> bool:
    kinds = [[(axis.ids is None, axis.what, axis.zero) for axis in value.axes] for value in (one, other)]
    return kinds[0] == kinds[1] and one[1:] == other[1:]


RULES: dict[str, ControlRule] = {"scan": scan, "while": while_loop, "cond": cond}
