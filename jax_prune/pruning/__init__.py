"""Pruning: groups, scores, counts, masks, allocations, costs, recovery; one question a file."""
