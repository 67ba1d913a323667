"""A program, equation by equation, with the units of every axis carried along."""

from __future__ import annotations

from typing import Any

from jax.extend.core import Literal

from jax_prune.nets.rewriting import CALLS
from jax_prune.pruning.tracing import control, elementwise, indexing, linear, mixing, shapes
from jax_prune.pruning.tracing.elementwise import Rule
from jax_prune.pruning.tracing.labels import Value, of_constant
from jax_prune.pruning.tracing.ledger import Ledger

BODIES = CALLS | {"composite": "jaxpr", "custom_vmap_call": "call"}
RULES: dict[str, Rule] = elementwise.RULES | linear.RULES | shapes.RULES | indexing.RULES | mixing.RULES


def walk(ledger: Ledger, closed: Any, values: list[Value]) -> list[Value]:
    """Labels of a ClosedJaxpr's (or open one's) outputs from those of its inputs."""
    jaxpr, constants = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
    known = dict(zip(jaxpr.constvars, map(of_constant, constants), strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))

    def read(atom: Any) -> Value:
        return of_constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        results = _results(ledger, equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _results(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if (inner := equation.params.get(BODIES.get(name, ""))) is not None:
        return walk(ledger, inner, values)
    if name in control.RULES:
        return control.RULES[name](ledger, equation, values, walk)
    return RULES.get(name, mixing.unknown)(ledger, equation, values)
