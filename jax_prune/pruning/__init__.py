"""Pruning: groups, scores, counts, masks, allocations, costs, recovery, compact nets; one question a file."""

from jax_prune.pruning.compact import compact, widths

__all__ = ["compact", "widths"]
