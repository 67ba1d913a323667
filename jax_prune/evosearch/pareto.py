"""Who is better when several objectives count: dominance, ranks, thinning, and an archive of the best.

Everything is pure, of static shapes, and lower is better. Named lengths: N points, M objectives. Points are compared
with all others a block at a time, so that memory grows with N, not with its square.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.types import Array

LARGEST = float(jnp.finfo(jnp.float32).max)
BLOCK = 128  # points that are compared with all N at once


class Points(NamedTuple):
    """``vectors`` float32 [N, G], their ``values`` [N, M], and ``violation`` [N], 0 where feasible.

    Values and violation are all +inf where nothing could be scored, and where an archive has room.
    """

    vectors: Array
    values: Array
    violation: Array


def empty(size: int, length: int, objectives: int) -> Points:
    """Room for ``size`` points with vectors [``length``] and so many ``objectives``."""
    return Points(
        jnp.zeros((size, length), jnp.float32),
        jnp.full((size, objectives), jnp.inf, jnp.float32),
        jnp.full(size, jnp.inf, jnp.float32),
    )


def join(left: Points, right: Points) -> Points:
    """One after the other."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), left, right)


def finite(points: Points) -> Array:
    """Which points could be scored: bool [N]."""
    return jnp.isfinite(points.values).all(axis=-1) & jnp.isfinite(points.violation)


def no_worse(left: Points, right: Points) -> Array:
    """Whether ``left`` is less in violation, or equal in it and no higher in any value: bool, shapes broadcast.

    Feasibility comes first (Deb 2000); values decide among equal violations.
    """
    no_higher = (left.values <= right.values).all(axis=-1)
    return (left.violation < right.violation) | ((left.violation == right.violation) & no_higher)


def dominates(left: Points, right: Points) -> Array:
    """Whether ``left`` is no worse than ``right`` and not the same: bool, shapes broadcast."""
    return no_worse(left, right) & ~no_worse(right, left)


def dominators(points: Points, among: Array) -> Array:
    """How many of those ``among`` (bool [N]) dominate each point: int32 [N]. O(N^2 M)."""

    def of(point: Points) -> Array:
        return jnp.sum(among & dominates(points, point), dtype=jnp.int32)

    return jax.lax.map(of, points, batch_size=BLOCK)


def ranks(points: Points, among: Array) -> Array:
    """Non-dominated ranks int32 [N] of those ``among`` (bool [N]); N for the others (Deb et al. 2002, III.A).

    0 for what no other dominates, 1 for what no other does when those are gone, and so on. O(N^2 M), whatever the
    number of ranks: who is ranked is taken off once from the dominators of all others, as in the paper.
    """
    size = len(among)

    def peel(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        rank, left, above, number = state
        front = left & (above == 0)
        return jnp.where(front, number, rank), left & ~front, above - _beaten(points, front), number + 1

    start = jnp.full(size, size, jnp.int32), among, dominators(points, among), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda state: state[1].any(), peel, start)[0]


def thinned(values: Array, among: Array, most: Array | int) -> Array:
    """Which ``most`` of those ``among`` (bool [N]) are left when the most crowded goes, one after the other.

    Crowding is the sum over objectives of the distance between the next lower and the next higher point, as a share of
    the range; infinite for the lowest and the highest (Deb et al. 2002, III.B). Equal values stand in ascending order
    of index; an objective with no range counts for nothing. Distances are renewed after each that goes (Kukkonen and
    Deb 2006): the extremes go last, and clusters lose but their surplus. O(N M) for each.
    """
    span = _span(values, among)

    def drop(state: tuple[Array, _Neighbours]) -> tuple[Array, _Neighbours]:
        left, near = state
        distance = jnp.minimum(_distance(values, near, span), LARGEST)
        crowded = jnp.argmin(jnp.where(left, distance, jnp.inf))
        return left.at[crowded].set(False), _without(near, crowded)

    start = among, _neighbours(values, among)
    return jax.lax.while_loop(lambda state: state[0].sum() > most, drop, start)[0]


def fittest(points: Points, among: Array, most: int) -> Array:
    """Which ``most`` of those ``among`` (bool [N]) survive: the lowest ranks, the last of them thinned: bool [N].

    The truncation of GDE3 (Kukkonen and Lampinen 2005) and NSGA-II (Deb et al. 2002).
    """
    rank, size = ranks(points, among), len(among)
    through = jnp.cumsum(jnp.zeros(size + 1, jnp.int32).at[rank].add(1))[rank]  # how many are as good by rank
    sure = among & (through <= most)
    cut = jnp.min(jnp.where(among & ~sure, rank, size))
    return sure | thinned(points.values, among & (rank == cut), most - sure.sum())


def take(points: Points, chosen: Array, size: int) -> Points:
    """The ``chosen`` (bool [N]) points in their order, in ``size`` places; what is left of these is empty."""
    at = jnp.argsort(~chosen, stable=True)[:size]
    held = chosen[at]
    vectors, values, violation = jax.tree.map(lambda leaf: leaf[at], points)
    return Points(
        jnp.where(held[:, None], vectors, 0),
        jnp.where(held[:, None], values, jnp.inf),
        jnp.where(held, violation, jnp.inf),
    )


def insert(archive: Points, points: Points) -> Points:
    """An archive of the same size with what is not dominated among its own and the new ``points``.

    Finite points only; equal values and violation are kept once, the first. Over capacity the most crowded go.
    """
    pool, size = join(archive, points), len(archive.violation)
    chosen = finite(pool) & (dominators(pool, jnp.ones(len(pool.violation), bool)) == 0) & ~_repeated(pool)
    return take(pool, thinned(pool.values, chosen, size), size)


class _Neighbours(NamedTuple):
    """Who is next in every objective: int32 [M, N] each, N where there is none."""

    lower: Array
    higher: Array


def _neighbours(values: Array, among: Array) -> _Neighbours:
    size, count = len(among), among.sum()

    def along(column: Array) -> tuple[Array, Array]:
        order = jnp.lexsort((column, ~among)).astype(jnp.int32)
        nobody = jnp.full(1, size, jnp.int32)
        after = jnp.where(jnp.arange(size) < count - 1, jnp.concatenate([order[1:], nobody]), size)
        before = jnp.concatenate([nobody, order[:-1]])
        return jnp.zeros_like(order).at[order].set(before), jnp.zeros_like(order).at[order].set(after)

    return _Neighbours(*jax.vmap(along)(values.T))


def _without(near: _Neighbours, gone: Array) -> _Neighbours:
    """The two neighbours of who is ``gone`` become each other's."""
    lower, higher = near.lower[:, gone], near.higher[:, gone]
    objectives = jnp.arange(len(lower))
    return _Neighbours(
        near.lower.at[objectives, higher].set(lower, mode="drop"),
        near.higher.at[objectives, lower].set(higher, mode="drop"),
    )


def _distance(values: Array, near: _Neighbours, span: Array) -> Array:
    columns, size = values.T, len(values)
    higher, lower = (jnp.take_along_axis(columns, jnp.minimum(at, size - 1), axis=1) for at in near[::-1])
    extreme = (near.lower == size) | (near.higher == size)
    share = jnp.where(extreme, jnp.inf, (higher - lower) / span[:, None])
    return jnp.where(span[:, None] > 0, share, 0).sum(axis=0)


def _span(values: Array, among: Array) -> Array:
    """Highest less lowest value [M] of those ``among``."""
    highest = jnp.max(jnp.where(among[:, None], values, -jnp.inf), axis=0)
    return highest - jnp.min(jnp.where(among[:, None], values, jnp.inf), axis=0)


def _beaten(points: Points, front: Array) -> Array:
    """How many of the ``front`` (bool [N]) dominate each point: int32 [N], a block of the front at a time."""
    size, members = len(front), jnp.argsort(~front)
    places = jnp.arange(min(BLOCK, size))

    def add(turn: Array, counts: Array) -> Array:
        at = turn * len(places) + places
        block = jax.tree.map(lambda leaf: leaf[members[at % size]][:, None], points)
        beats = dominates(block, points) & (at < front.sum())[:, None]
        return counts + beats.sum(axis=0, dtype=jnp.int32)

    return jax.lax.fori_loop(0, -(-front.sum() // len(places)), add, jnp.zeros(size, jnp.int32))


def _repeated(points: Points) -> Array:
    """Whether an earlier point has the same values and violation: bool [N]."""
    columns = jnp.column_stack([points.violation, points.values])
    order = jnp.lexsort(columns.T)  # stable: of equal points the first comes first
    sorted_ = columns[order]
    again = jnp.concatenate([jnp.zeros(1, bool), (sorted_[1:] == sorted_[:-1]).all(axis=1)])
    return jnp.zeros(len(again), bool).at[order].set(again)
