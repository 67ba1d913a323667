"""Tracing: labels along every axis of a network's program, one question a file."""

from jax_prune.pruning.tracing.slots import Frozen
from jax_prune.pruning.tracing.trace import Traced, labelled, trace, traced

__all__ = ["Frozen", "Traced", "labelled", "trace", "traced"]
