"""What a search will hold, in bytes, said before it is launched: data, network, shared products, candidates."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jax_prune import progress
from jax_prune.errors import BadInput
from jax_prune.evosearch.masked import MaskedLoss
from jax_prune.nets import hoisting
from jax_prune.types import Tree


class Memory(NamedTuple):
    """Bytes. ``limit`` is what all of it together may take.

    ``data``: calibration examples and what the net makes of them before any parameter; ``arranged``: further copies of
    them, sorted and in random order; ``network``: parameters, state, ranks and what batch statistics are taken over;
    ``first_layer``: inputs and products at ``counts`` kept counts, in as many copies; ``body``: what one program of
    ``at_once`` candidates allocates beside these, None where that was not measured.
    """

    limit: int
    data: int
    arranged: int
    network: int
    first_layer: int
    counts: int
    at_once: int = 1
    body: int | None = None

    @property
    def total(self) -> int:
        """Everything that is known."""
        return self.data + self.arranged + self.network + self.first_layer + (self.body or 0)

    @property
    def left(self) -> int:
        """What the limit leaves over; 0 where it is exceeded."""
        return max(self.limit - self.total, 0)


def planned(masked: MaskedLoss, limit: int, beside: MaskedLoss | None = None, copies: int = 1) -> Memory:
    """Without candidates, for the search's ``masked``, where ``beside`` (the same in float32, say) is kept as well.

    ``copies`` of the data are made beside its own, see ``examples.copies``. Raises BadInput where the data alone is
    above the limit.
    """
    held = [masked] if beside is None else [masked, beside]
    data = _bytes([(one.chunks, one.weights) for one in held])
    if data > limit:
        raise BadInput(
            f"calibration data takes {progress.size(data)}, the memory limit is {progress.size(limit)}: "
            "raise memory, or calibrate on fewer examples"
        )
    network = _bytes([(one.net.params, one.net.state, one.ranks, one.recalibration) for one in held])
    layer = masked.first_layer
    products = 0 if layer is None else (1 + copies) * _bytes((layer.inputs, layer.products))
    counts = 0 if layer is None else len(layer.counts)
    return Memory(limit, data, copies * _bytes(masked.chunks), network, products, counts)


def room_for_products(plan: Memory, masked: MaskedLoss, body: int | None, copies: int = 1) -> int:
    """What ``MaskedLoss.cached`` may take of ``left``, beside inputs of its own and a ``body`` of candidates.

    Where the body is not known half of what is left stays for it. It counts on one copy beside its own.
    """
    left = plan.left - (1 + copies) * _bytes(masked.chunks.values)
    return max(left - body if body is not None else left // 2, 0) * 2 // (1 + copies)


def has_first_product(masked: MaskedLoss) -> bool:
    """Whether ``MaskedLoss.cached`` could have something to keep."""
    return masked.precision == "float32" and hoisting.first_product(masked.hoisted, masked.net.params) is not None


def line(plan: Memory) -> str:
    """One line on all of it."""
    products = f"first layer at {plan.counts} counts {progress.size(plan.first_layer)}, " if plan.counts else ""
    number = f"{plan.at_once} candidate{'s' if plan.at_once > 1 else ''} at once"
    body = f"{number} {progress.size(plan.body)}" if plan.body is not None else f"{number} beside these, not measured"
    over = " (above the limit: raise memory)" if plan.total > plan.limit else ""
    least = "at least " if plan.body is None else ""
    total = f"{least}{progress.size(plan.total)} of {progress.size(plan.limit)}{over}"
    return (
        f"memory of a search: data {progress.size(plan.data)}, sorted copy {progress.size(plan.arranged)}, "
        f"network and ranks {progress.size(plan.network)}, {products}{body}; {total}"
    )


def _bytes(tree: Tree) -> int:
    """Of every array once, however often it stands there."""
    arrays = {id(leaf): leaf for leaf in jax.tree.leaves(tree)}
    return sum(leaf.nbytes for leaf in arrays.values())
