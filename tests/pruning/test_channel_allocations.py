"""Allocations of channels: all at the same target, each by its own rule."""

from __future__ import annotations

import numpy as np
import pytest

from jax_prune.errors import BadInput
from jax_prune.pruning import channel_allocations, channel_budgets, channel_costs, channel_scores
from jax_prune.pruning.channel_budgets import limit
from jax_prune.types import Group, Slot

SIZES = (400, 900, 700)
SHAPES = {"a": (3, 400), "b": (400, 900), "c": (900, 700), "d": (700, 10)}
GROUPS = tuple(
    Group(name, size, (Slot(here, 1), Slot(there, 0)))
    for name, size, (here, there) in zip("abc", SIZES, ("ab", "bc", "cd"), strict=True)
)
COST = channel_costs.priced(SHAPES, GROUPS, dict.fromkeys(SHAPES, 1), "parameters")
EVERYTHING = channel_budgets.anything(GROUPS)
RNG = np.random.default_rng(0)
SCORES = [scale * RNG.gamma(2.0, size=size).astype(np.float32) for scale, size in zip((1, 2, 0.5), SIZES, strict=True)]
PARAMS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
WHOLE = channel_costs.spent(COST, SIZES)
LIMITS = (limit(COST, WHOLE // 4),)


def spent(kept):
    return channel_costs.spent(COST, kept)


def without_room(kept):
    return all(
        count == size or spent(kept + row) > WHOLE // 4
        for count, size, row in zip(kept, SIZES, np.eye(3, dtype=int), strict=True)
    )


@pytest.mark.parametrize("name", ["uniform", "l1", "torch_pruning", "lamp"])
def test_every_allocation_meets_the_target_with_no_room_left(name):
    magnitude = channel_scores.group_magnitude(PARAMS, GROUPS)
    scores = {"l1": SCORES, "torch_pruning": magnitude, "lamp": channel_scores.lamp(magnitude)}
    if name == "uniform":
        kept = channel_allocations.uniform(GROUPS, LIMITS, EVERYTHING)
    else:
        kept = channel_allocations.by_score(scores[name], GROUPS, LIMITS, EVERYTHING)
    assert kept.dtype == np.int64 and spent(kept) <= WHOLE // 4 and without_room(kept)
    assert (kept >= 1).all() and (kept <= SIZES).all()


def test_uniform_keeps_one_share():
    kept = channel_allocations.uniform(GROUPS, LIMITS, EVERYTHING)
    np.testing.assert_allclose(kept[1:] / SIZES[1:], (kept / SIZES)[0], atol=2 / 400)


def test_scores_are_cut_at_one_threshold():
    """As many of the best as the budget pays for, but for what is left over."""
    kept = channel_allocations.by_score(SCORES, GROUPS, LIMITS, EVERYTHING)
    every = np.sort(np.concatenate(SCORES))[::-1]
    best = next(
        counts
        for counts in ([int((score >= threshold).sum()) for score in SCORES] for threshold in every[::-1])
        if spent(counts) <= WHOLE // 4
    )
    assert np.abs(kept - best).max() <= 3
    assert kept[1] / SIZES[1] > 2 * kept[2] / SIZES[2]  # the larger scores


def test_rounded_counts():
    groups = tuple(group._replace(step=16) for group in GROUPS)
    for kept in (
        channel_allocations.uniform(groups, LIMITS, EVERYTHING),
        channel_allocations.by_score(SCORES, groups, LIMITS, EVERYTHING),
    ):
        assert spent(kept) <= WHOLE // 4
        for index, (count, size) in enumerate(zip(kept, SIZES, strict=True)):
            assert count % 16 == 0 or count == size
            assert spent(kept + 16 * np.eye(3, dtype=int)[index]) > WHOLE // 4


def test_two_budgets():
    """A second one that is the tighter; both hold."""
    second = channel_costs.priced(SHAPES, GROUPS, {"c": 3}, "MACs")
    limits = (*LIMITS, limit(second, channel_costs.spent(second, SIZES) // 8))
    for kept in (
        channel_allocations.uniform(GROUPS, limits, EVERYTHING),
        channel_allocations.by_score(SCORES, GROUPS, limits, EVERYTHING),
    ):
        assert spent(kept) <= WHOLE // 4
        assert channel_costs.spent(second, kept) <= channel_costs.spent(second, SIZES) // 8


def test_bad_input_is_one_line():
    with pytest.raises(BadInput, match="2 scores for 3 groups"):
        channel_allocations.by_score(SCORES[:2], GROUPS, LIMITS, EVERYTHING)
    with pytest.raises(BadInput, match="scores of group b are not all finite"):
        channel_allocations.by_score([SCORES[0], SCORES[1] * np.nan, SCORES[2]], GROUPS, LIMITS, EVERYTHING)
    with pytest.raises(BadInput, match="budget 9 of"):
        channel_allocations.by_score(SCORES, GROUPS, (limit(COST, 9),), EVERYTHING)
