"""One threshold for the scores of all groups, the lowest at which what is left meets its budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import wide
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Group


def limit(cost: Any, budget: int, groups: Sequence[Group], movable: Sequence[bool]) -> Limit:
    """Raises BadInput where groups at their least, or whole where they are not ``movable``, cost more than that."""
    at_least = int(wide.to_numpy(cost.total(jnp.asarray(_fewest(groups, movable), jnp.int32))))
    if budget < at_least:
        fixed = [group.name for group, moves in zip(groups, movable, strict=True) if not moves]
        rest = f"; not to be cut: {', '.join(fixed)}" if fixed else ""
        raise BadInput(f"a budget of {budget:,} cannot be met: one step of every group costs {at_least:,}{rest}")
    return Limit(cost, wide.of(int(budget)))


def within(
    scores: Sequence[Array], groups: Sequence[Group], limits: Sequence[Limit], movable: Sequence[bool]
) -> tuple[Array, ...]:
    """The units above the lowest threshold at which all ``limits`` hold, and what still fits: bool [n_g].

    The threshold is found by bisection over the N units in the order of all scores (ties by index), with one sort.
    Below it the best units that fit come back, one after the other, until no group has room for one more. A group
    keeps its best unit, or its best ``step`` units and whole steps of them; one that is not ``movable`` [G] keeps all.
    Scores may be traced.
    """
    sizes, step = (np.asarray([getattr(group, name) for group in groups]) for name in ("size", "step"))
    fewest, owner = _fewest(groups, movable), np.repeat(np.arange(len(groups)), sizes)
    score = jnp.concatenate([jnp.asarray(own, jnp.float32) for own in scores])
    ascending, place = _sorted(score, owner, sizes)
    from_best = sizes[owner] - 1 - place
    order = jnp.argsort(jnp.where(from_best < fewest[owner], jnp.inf, score), stable=True)
    rank = jnp.zeros(len(owner), jnp.int32).at[order].set(jnp.arange(len(owner), dtype=jnp.int32))

    def kept(removed: Array) -> Array:
        units = jax.ops.segment_sum((rank >= removed).astype(jnp.int32), owner, len(groups))
        return jnp.where(units == sizes, units, jnp.maximum(units // step * step, fewest)).astype(jnp.int32)

    def holds(counts: Array) -> Array:
        return jnp.stack([wide.at_most(each.cost.total(counts), each.budget) for each in limits]).all()

    def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        middle = (low + high) // 2
        enough = holds(kept(middle))
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    removed, _ = jax.lax.fori_loop(0, len(owner).bit_length(), halve, (jnp.int32(0), jnp.int32(len(owner))))
    counts = _filled(kept(removed), holds, ascending, sizes, step)
    return tuple(jnp.split(from_best < counts[owner], np.cumsum(sizes)[:-1]))


def _filled(
    counts: Array, holds: Callable[[Array], Array], ascending: Array, sizes: np.ndarray, step: np.ndarray
) -> Array:
    """Counts [G] raised step by step, the best unit that fits first; ``ascending`` [N] are the groups' scores."""
    groups = np.arange(len(sizes))

    def raised(counts: Array) -> tuple[Array, Array]:
        more = jnp.minimum(step, sizes - counts).astype(jnp.int32)
        each = counts + more * jnp.eye(len(sizes), dtype=jnp.int32)
        return each, (more > 0) & jax.vmap(holds)(each)

    def fill(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        counts, each, fits = state
        best = jnp.cumsum(sizes)[groups] - 1 - jnp.minimum(counts, sizes - 1)
        first = jnp.argmax(jnp.where(fits, ascending[best], -jnp.inf))
        first = jnp.where(fits[first], first, jnp.argmax(fits))  # scores of -inf too
        return each[first], *raised(each[first])

    return jax.lax.while_loop(lambda state: state[2].any(), fill, (counts, *raised(counts)))[0]


def loosened(limit: Limit, groups: Sequence[Group], share: Array) -> Limit:
    """The limit with ``share`` of what the whole groups cost beyond it; a share of 0 is the limit itself."""
    dense = limit.cost.total(jnp.asarray([group.size for group in groups], jnp.int32))
    excess = jnp.where(wide.at_most(limit.budget, dense), wide.to_float(wide.subtract(dense, limit.budget)), 0.0)
    more = excess * share
    high = jnp.floor(more / 2.0**32)
    extra = Wide(high.astype(jnp.uint32), (more - high * 2.0**32).astype(jnp.uint32))
    whole = wide.add(limit.budget, extra)
    all_of_it = (share >= 1) & wide.at_most(limit.budget, dense)  # float32 rounds what is in excess
    return limit._replace(budget=jax.tree.map(lambda one, other: jnp.where(all_of_it, one, other), dense, whole))


def _fewest(groups: Sequence[Group], movable: Sequence[bool]) -> np.ndarray:
    """Units int [G] that stay in any case."""
    return np.asarray(
        [min(group.step, group.size) if moves else group.size for group, moves in zip(groups, movable, strict=True)]
    )


def _sorted(score: Array, owner: np.ndarray, sizes: np.ndarray) -> tuple[Array, Array]:
    """The scores [N] ascending within every group, ties by index, and every unit's place in its group: int32 [N]."""
    index = jnp.arange(len(owner), dtype=jnp.int32)
    _, ascending, order = jax.lax.sort((jnp.asarray(owner, jnp.int32), score, index), num_keys=2, is_stable=True)
    start = np.cumsum(sizes) - sizes
    return ascending, jnp.zeros_like(index).at[order].set(index) - start[owner].astype(np.int32)
