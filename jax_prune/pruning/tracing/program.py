"""Channel groups of any network, read from the program that it is.

Every axis of every parameter starts with units of its own; walking over the jaxpr joins those that live or die
together and freezes those that cannot go (the idea of dependency graphs, Fang et al. 2023, on JAX's own programs).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from jax_prune.errors import BadInput, said
from jax_prune.pruning.tracing import leaves, slots
from jax_prune.pruning.tracing.labels import NO_UNIT_INPUT, Value, all_fixed
from jax_prune.pruning.tracing.leaves import LeafAxis
from jax_prune.pruning.tracing.ledger import Ledger
from jax_prune.pruning.tracing.linear import WINDOW
from jax_prune.pruning.tracing.slots import Frozen
from jax_prune.pruning.tracing.units import Units, units
from jax_prune.pruning.tracing.walk import walk
from jax_prune.types import Group, Net

OUTPUT = "the network's output"


class Traced(NamedTuple):
    """The groups that can be cut, and what stays with the reason."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]


class Labelled(NamedTuple):
    """Units of the leaves' positions, with the program they were read from."""

    units: Units
    axes: list[LeafAxis]
    ledger: Ledger
    jaxpr: Any
    outputs: Any  # their shapes


def trace(net: Net, example: Any, *, train: bool = False) -> tuple[Group, ...]:
    """The groups of channels, hidden units and heads that can be cut, in the order in which the net makes them.

    ``example`` holds arrays (or jax.ShapeDtypeStruct) as ``net`` takes them; nothing is computed. A group is named
    after the layer that makes its units; its slots say where they appear, in the state too. ``train`` reads the
    program of training without dropout, batch statistics included. Raises BadInput for an example that the net
    cannot take, and for a net whose shapes or branches depend on its data.
    """
    return traced(net, example, train=train).groups


def traced(net: Net, example: Any, *, train: bool = False) -> Traced:
    """``trace`` with what stays, and why."""
    found = labelled(net, example, train=train)
    groups, frozen = slots.grouped(found.units, found.axes, found.ledger.produced)
    return Traced(tuple(groups), tuple(entry for entry in frozen if entry.reason != WINDOW))


def labelled(net: Net, example: Any, *, train: bool = False) -> Labelled:
    """The unit of every position of every leaf."""
    params, state, x = jax.tree.map(_shape, (net.params, net.state, example))
    closed, outputs = program(net, params, state, x, train)
    ledger = Ledger()
    parameters, axes = leaves.label(ledger, params, False)
    states, more = leaves.label(ledger, state, True)
    _freeze_unused(ledger, closed.jaxpr, parameters)
    inputs = [all_fixed(leaf.shape, NO_UNIT_INPUT, True) for leaf in jax.tree.leaves(x)]
    results = walk(ledger, closed, [*parameters, *states, *inputs])
    count = len(jax.tree.leaves(outputs[0]))
    for value in results[:count]:
        for axis in value.axes:
            ledger.freeze(axis, OUTPUT)
    for old, new in zip(states, results[count:], strict=True):  # what a call leaves is what the next one finds
        for pair in zip(old.axes, new.axes, strict=True):
            ledger.join(pair, "the new state")
    return Labelled(units(ledger), [*axes, *more], ledger, closed, outputs[0])


def _freeze_unused(ledger: Ledger, jaxpr: Any, parameters: list[Value]) -> None:
    used = {atom for equation in jaxpr.eqns for atom in equation.invars if not isinstance(atom, Literal)}
    used |= {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for variable, value in zip(jaxpr.invars, parameters, strict=False):
        if variable not in used:
            for axis in value.axes:
                ledger.freeze(axis, "the network does not use it")


def program(net: Net, params: Any, state: Any, x: Any, train: bool) -> tuple[Any, Any]:
    """The jaxpr of one call and the shapes of its outputs and new state."""

    def forward(params: Any, state: Any, x: Any) -> Any:
        return net.apply(params, state, x, train=train, key=None)

    try:
        return jax.make_jaxpr(forward, return_shape=True)(params, state, x)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise BadInput(
            f"the network's shapes or branches depend on its data ({said(error)}): tracing needs a network that runs "
            "under jax.jit"
        ) from error
    except Exception as error:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(x))
        raise BadInput(
            f"the network cannot take an example of shape {shapes} ({said(error)}): give one as it is called with, its "
            "batch first"
        ) from error


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
