"""One threshold for the scores of all groups, the lowest at which what is left meets its budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_prune.errors import BadInput
from jax_prune.pruning import tolls, wide
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.pruning.channel_projection import STEEPEST, bisected
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Group

BENDS = np.append(0, np.geomspace(0.1, STEEPEST, 23)).astype(np.float32)
HALVINGS = 12  # of the log of a place, which ends within one of thousands


def limit(cost: Any, budget: int, groups: Sequence[Group], movable: Sequence[bool]) -> Limit:
    """Raises BadInput where groups at their least, or whole where they are not ``movable``, cost more than that."""
    at_least = int(wide.to_numpy(cost.total(jnp.asarray(_fewest(groups, movable), jnp.int32))))
    if budget < at_least:
        fixed = [group.name for group, moves in zip(groups, movable, strict=True) if not moves]
        rest = f"; not to be cut: {', '.join(fixed)}" if fixed else ""
        raise BadInput(
            f"a budget of {budget:,} {cost.name} cannot be met: one step of every group costs {at_least:,}{rest}"
        )
    return Limit(cost, wide.of(int(budget)))


def within(
    scores: Sequence[Array], groups: Sequence[Group], limits: Sequence[Limit], movable: Sequence[bool]
) -> tuple[Array, ...]:
    """The units above the lowest threshold at which all ``limits`` hold, and what still fits: bool [n_g].

    The threshold is found by bisection over the N units in the order of all scores (ties by index), with one sort.
    Below it the best units that fit come back, one after the other, until no group has room for one more. A group
    keeps its best unit, or its best ``step`` units and whole steps of them; one that is not ``movable`` [G] keeps all.
    Scores may be traced.

    The first limit is the one to be met. Where the others would not let it, units of groups that spend most of the
    others for what they spend of the first count for less than their scores, by as little as will do (``_bent``), and
    come back last; where nothing will do, the others decide.
    """
    sizes, step = (np.asarray([getattr(group, name) for group in groups]) for name in ("size", "step"))
    fewest, owner = _fewest(groups, movable), np.repeat(np.arange(len(groups)), sizes)
    score = jnp.concatenate([jnp.asarray(own, jnp.float32) for own in scores])
    handicap = None
    if len(limits) > 1:
        score, handicap = _bent(score, groups, limits, movable)
    ascending, place = _sorted(score, owner, sizes)
    from_best = sizes[owner] - 1 - place
    order = jnp.argsort(jnp.where(from_best < fewest[owner], jnp.inf, score), stable=True)
    rank = jnp.zeros(len(owner), jnp.int32).at[order].set(jnp.arange(len(owner), dtype=jnp.int32))

    def kept(removed: Array) -> Array:
        units = jax.ops.segment_sum((rank >= removed).astype(jnp.int32), owner, len(groups))
        return _whole_steps(units, sizes, step, fewest)

    holds = partial(_hold, limits)

    def halve(_: int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        middle = (low + high) // 2
        enough = holds(kept(middle))
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    removed, _ = jax.lax.fori_loop(0, len(owner).bit_length(), halve, (jnp.int32(0), jnp.int32(len(owner))))
    counts = _filled(kept(removed), holds, ascending, sizes, step, handicap)
    return tuple(jnp.split(from_best < counts[owner], np.cumsum(sizes)[:-1]))


def _bent(
    score: Array, groups: Sequence[Group], limits: Sequence[Limit], movable: Sequence[bool]
) -> tuple[Array, Array]:
    """Scores [N] by which what meets the first limit is within the others, and each group's handicap [G] in them.

    A unit's place from the best of all is e**handicap times as far down; within a group nothing changes. A handicap
    is bend * toll, the toll (``tolls``) being that of what meets the first limit unbent. Where places are spread
    evenly, a group so keeps e**-handicap of its share, as when ``channel_projection`` bends. The bend is the least
    that will do: ``BENDS`` are tried at once, then as many between the first one and the one before. It leaves the
    others room for the step with which the first is exceeded, where there is such a bend: filling up needs some.
    """
    sizes, step = (np.asarray([getattr(group, name) for group in groups]) for name in ("size", "step"))
    fewest, owner = _fewest(groups, movable), np.repeat(np.arange(len(groups)), sizes)
    place = _places(score, np.asarray(movable)[owner])
    inside = np.arange(sizes.max()) < sizes[:, None]
    rows = jnp.sort(jnp.full(inside.shape, jnp.inf).at[np.nonzero(inside)].set(place), axis=1)

    def at(depth: Array, handicap: Array) -> Array:
        units = jax.vmap(_up_to)(rows, jnp.exp(depth - handicap))
        return _whole_steps(units, sizes, step, fewest)

    def meeting(handicap: Array, least: Array, most: Array) -> tuple[Array, Array]:
        return bisected(lambda depth: _hold(limits[:1], at(depth, handicap)), least, most, HALVINGS)

    none = jnp.zeros(len(sizes))
    unbent, over = meeting(none, jnp.float32(-1), jnp.log(jnp.float32(len(owner) + 1)))
    counts, own = at(unbent, none), jnp.diag(jnp.asarray(step, jnp.int32))
    toll = tolls.of(limits, jnp.minimum(counts + own, sizes), jnp.maximum(counts - own, fewest))

    def met(bends: Array, least: Array, most: Array) -> tuple[Array, Array]:
        handicaps = bends[:, None] * toll
        depths = jax.vmap(meeting, (0, None, 0))(handicaps, least, most)
        just, with_room = (jax.vmap(lambda *it: _hold(limits[1:], at(*it)))(depth, handicaps) for depth in depths)
        return jnp.where(with_room.any(), with_room, just), depths[0]

    def least_bend() -> Array:
        bends = jnp.asarray(BENDS)
        will_do, depths = met(bends, unbent, unbent + bends * toll.max())
        high = jnp.argmax(will_do)
        low = jnp.maximum(high - 1, 0)
        finer = jnp.linspace(bends[low], bends[high], len(bends))
        enough, _ = met(finer, depths[low], jnp.broadcast_to(depths[high], bends.shape))
        return jnp.where(will_do.any(), finer[jnp.argmax(enough.at[-1].set(True))], 0)

    bend = jax.lax.cond(_hold(limits[1:], at(over, none)), lambda: jnp.float32(0), least_bend)
    return -place * jnp.exp(bend * toll)[owner], bend * toll


def _filled(
    counts: Array,
    holds: Callable[[Array], Array],
    ascending: Array,
    sizes: np.ndarray,
    step: np.ndarray,
    handicap: Array | None,
) -> Array:
    """Counts [G] raised step by step, the best unit that fits first; ``ascending`` [N] are the groups' scores.

    Where there are handicaps [G], those that fit and have the least come first.
    """
    groups = np.arange(len(sizes))

    def raised(counts: Array) -> tuple[Array, Array]:
        more = jnp.minimum(step, sizes - counts).astype(jnp.int32)
        each = counts + more * jnp.eye(len(sizes), dtype=jnp.int32)
        fits = (more > 0) & jax.vmap(holds)(each)
        return each, fits if handicap is None else fits & (handicap <= jnp.min(handicap, where=fits, initial=jnp.inf))

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


def _hold(limits: Sequence[Limit], counts: Array) -> Array:
    return jnp.stack([wide.at_most(cost.total(counts), budget) for cost, budget in limits]).all()


def _whole_steps(units: Array, sizes: np.ndarray, step: np.ndarray, fewest: np.ndarray) -> Array:
    """Units int32 [G] down to whole steps, ``fewest`` at least."""
    return jnp.where(units == sizes, units, jnp.maximum(units // step * step, fewest)).astype(jnp.int32)


_up_to = partial(jnp.searchsorted, side="right", method="scan_unrolled")


def _places(score: Array, moves: np.ndarray) -> Array:
    """Float32 [N]: from 1, the best, in the order of all scores (ties by index) of what ``moves``; others below."""
    order = jnp.argsort(jnp.where(moves, score, jnp.inf), stable=True)
    return jnp.zeros_like(score).at[order].set(moves.sum() - jnp.arange(len(moves), dtype=jnp.float32))


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
