"""Tracing: labels along every axis of a network's program, one question a file."""

from jax_prune.pruning.tracing.program import Traced, labelled, trace, traced
from jax_prune.pruning.tracing.slots import Frozen

__all__ = ["Frozen", "Traced", "labelled", "trace", "traced"]
