"""A function's matrix products and convolutions in bfloat16, everything between them in float32.

Mixed precision (Micikevicius et al. 2018) without any cooperation of the network, read from its jaxpr: whatever comes
to a product in float32 is rounded, and the product's result too, so that what is stored and moved has two bytes. Sums,
normalisations, exponentials and constants keep their float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jax_prune.nets.rewriting import PRODUCTS, Rewritten
from jax_prune.types import Tree


def bfloat16_products(function: Callable[..., Tree]) -> Rewritten:
    """``function`` of trees of arrays with its products in bfloat16; see ``Rewritten``."""
    return Rewritten(function, _rounded)


def _rounded(equation: Any, operands: list[Any]) -> list[Any] | None:
    if equation.primitive.name not in PRODUCTS or any(operand.dtype != jnp.float32 for operand in operands):
        return None
    settings = equation.params | {"preferred_element_type": jnp.dtype(jnp.bfloat16)}
    result = equation.primitive.bind(*(jnp.asarray(operand, jnp.bfloat16) for operand in operands), **settings)
    return [result.astype(equation.outvars[0].aval.dtype)]
