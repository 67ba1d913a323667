"""Dominance, ranks, thinning and the archive against brute force, ties and failures included."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.evosearch import pareto
from jax_prune.evosearch.pareto import Points

SIZE = 9
RANGE = 8  # of all values: a power of two, so that shares of the range are exact and ties break alike
EMPTY = np.inf
FEW = st.integers(1, 3)
ranks, thinned, dominators = map(jax.jit, (pareto.ranks, pareto.thinned, pareto.dominators))
insert, fittest = jax.jit(pareto.insert), jax.jit(pareto.fittest, static_argnums=2)


@st.composite
def points(draw, objectives=FEW, size=SIZE):
    """Few different values, so that ties and copies are common; some failed, and some infeasible."""
    count = draw(objectives)
    cells = st.integers(0, RANGE).map(float)
    values = np.array(draw(st.lists(st.lists(cells, min_size=count, max_size=count), min_size=size, max_size=size)))
    violation = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0]), min_size=size, max_size=size)))
    failed = np.array(draw(st.lists(st.sampled_from([False] * 5 + [True]), min_size=size, max_size=size)))
    values[failed], violation[failed] = EMPTY, EMPTY
    vectors = np.arange(size, dtype=np.float32)[:, None] + np.zeros(2, np.float32)
    return Points(vectors, values.astype(np.float32), violation.astype(np.float32))


def present(size=SIZE):
    return st.lists(st.booleans(), min_size=size, max_size=size).filter(any).map(np.array)


def beats(points, i, j):
    """Deb's constrained dominance, word for word."""
    if points.violation[i] != points.violation[j]:
        return points.violation[i] < points.violation[j]
    pairs = list(zip(points.values[i], points.values[j], strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def brute_ranks(points, among):
    rank, left, number = np.full(len(among), len(among)), set(np.flatnonzero(among)), 0
    while left:
        front = {j for j in left if not any(beats(points, i, j) for i in left)}
        rank[list(front)] = number
        left, number = left - front, number + 1
    return rank


def brute_crowding(values, among, spans=None):
    members, total = list(np.flatnonzero(among)), np.zeros(len(among))
    for m in range(values.shape[1]):
        order = sorted(members, key=lambda i: (values[i, m], i))
        span = spans[m] if spans is not None else values[order[-1], m] - values[order[0], m]
        if not span > 0:
            continue
        total[[order[0], order[-1]]] = np.inf
        for before, at, after in zip(order, order[1:], order[2:], strict=False):
            total[at] += (values[after, m] - values[before, m]) / span
    return total


def brute_thinned(values, among, most):
    left = np.array(among)
    inside = values[left]
    spans = inside.max(0) - inside.min(0) if len(inside) else np.zeros(values.shape[1])
    while left.sum() > most:
        distance = brute_crowding(values, left, spans)
        left[min(np.flatnonzero(left), key=lambda i: (distance[i], i))] = False
    return left


@settings(deadline=None, max_examples=50)
@given(points(), present())
def test_dominators_are_counted_by_the_definition(drawn, among):
    rows = jax.tree.map(lambda leaf: leaf[:, None], drawn)
    expected = np.array([[beats(drawn, i, j) for j in range(SIZE)] for i in range(SIZE)])
    np.testing.assert_array_equal(pareto.dominates(rows, drawn), expected)
    np.testing.assert_array_equal(dominators(drawn, among), expected[among].sum(axis=0))


@settings(deadline=None, max_examples=50)
@given(points(), present())
def test_ranks_peel_front_after_front(drawn, among):
    np.testing.assert_array_equal(ranks(drawn, among), brute_ranks(drawn, among))


@settings(deadline=None, max_examples=50)
@given(points(), present(), st.integers(0, SIZE))
def test_the_most_crowded_go_one_after_the_other(drawn, among, most):
    among &= np.isfinite(drawn.violation)
    values = np.where(among[:, None], drawn.values, 0)
    for m in range(values.shape[1]):  # ranges of exactly RANGE, or of nothing
        inside = values[among, m]
        if inside.size and np.ptp(inside):
            values[np.flatnonzero(among)[inside.argmin()], m] = 0
            values[np.flatnonzero(among)[inside.argmax()], m] = RANGE
    found = np.asarray(thinned(values, among, most))
    np.testing.assert_array_equal(found, brute_thinned(values, among, most))


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(SIZE)), st.integers(4, SIZE))
def test_extremes_stay_and_clusters_lose_their_surplus(order, most):
    along = np.array([0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.4, 0.7, 1], np.float32)[np.array(order)]
    left = np.asarray(thinned(np.stack([along, 1 - along], 1), np.ones(SIZE, bool), most))
    assert left.sum() == most and {0, 1} <= set(along[left])
    assert {np.float32(0.4), np.float32(0.7)} <= set(along[left])


@settings(deadline=None, max_examples=50)
@given(points(), present(), st.integers(1, 4))
def test_survivors_are_the_lowest_ranks(drawn, among, most):
    among |= np.arange(SIZE) < most
    found, rank = np.asarray(fittest(drawn, among, most)), brute_ranks(drawn, among)
    assert found.sum() == most and not (found & ~among).any()
    assert sorted(rank[found]) == sorted(rank[among])[:most]


@settings(deadline=None, max_examples=50)
@given(st.lists(points(st.just(2)), min_size=1, max_size=4))
def test_a_roomy_archive_holds_all_that_nothing_dominates_once(batches):
    archive = pareto.empty(4 * SIZE, 2, 2)
    for batch in batches:
        archive = insert(archive, batch)
    every = Points(*(np.concatenate(leaves) for leaves in zip(*batches, strict=True)))
    finite = [i for i in range(len(every.violation)) if np.isfinite(every.violation[i])]
    best = {(*every.values[j], every.violation[j]) for j in finite if not any(beats(every, i, j) for i in finite)}
    rows = [(*v, c) for v, c in zip(*map(np.asarray, archive[1:]), strict=True) if np.isfinite(c)]
    assert len(rows) == len(set(rows)) and set(rows) == best


@settings(deadline=None, max_examples=40)
@given(st.lists(points(st.just(2)), min_size=1, max_size=4))
def test_a_small_archive_is_mutually_non_dominated(batches):
    archive = pareto.empty(4, 2, 2)
    for batch in batches:
        archive = Points(*map(np.asarray, insert(archive, batch)))
        held = np.isfinite(archive.violation)
        assert np.isfinite(archive.values[held]).all() and np.isinf(archive.values[~held]).all()
        assert not any(beats(archive, i, j) for i in np.flatnonzero(held) for j in np.flatnonzero(held))


def test_a_full_archive_keeps_its_extremes():
    along = np.linspace(0, 1, 60, dtype=np.float32)
    line = Points(along[:, None], np.stack([along, 1 - along], 1), np.zeros(60, np.float32))
    archive = pareto.empty(12, 1, 2)
    for order in np.random.default_rng(0).permutation(60).reshape(6, 10):
        archive = insert(archive, jax.tree.map(lambda leaf, at=order: leaf[at], line))
    held = np.sort(np.asarray(archive.values)[:, 0])
    assert held[0] == 0 and held[-1] == 1 and np.isfinite(held).all()
    assert np.diff(held).max() < 0.2  # spread out: twelve even ones are 0.09 apart


@pytest.mark.parametrize("objectives", [2, 3])
def test_ranks_are_pymoos(objectives):
    from pymoo.util.nds import non_dominated_sorting as sorting

    values = np.random.default_rng(objectives).normal(size=(60, objectives)).astype(np.float32)
    feasible = Points(np.zeros((60, 1), np.float32), values, np.zeros(60, np.float32))
    found = np.asarray(ranks(feasible, np.ones(60, bool)))
    for number, front in enumerate(sorting.NonDominatedSorting().do(values)):
        np.testing.assert_array_equal(np.flatnonzero(found == number), np.sort(front))


def many(size, seed):
    """Points on a coarse grid, with ties, copies, infeasible and failed ones."""
    rng = np.random.default_rng(seed)
    values = rng.integers(12, size=(size, 3)).astype(np.float32)
    violation = np.where(rng.random(size) < 0.2, rng.integers(1, 4, size), 0).astype(np.float32)
    failed = rng.random(size) < 0.1
    values[failed], violation[failed] = EMPTY, EMPTY
    return Points(np.arange(size, dtype=np.float32)[:, None], values, violation)


def dense_dominance(points):
    """The whole matrix bool [N, N]: the row's point dominates the column's."""
    left, right = points.violation[:, None], points.violation[None]
    no_higher = (points.values[:, None] <= points.values[None]).all(-1)
    lower = (points.values[:, None] < points.values[None]).any(-1)
    return (left < right) | ((left == right) & no_higher & lower)


@pytest.mark.parametrize("size", [pareto.BLOCK, 2 * pareto.BLOCK + 1, 3 * pareto.BLOCK - 1])
def test_blocks_give_what_the_whole_matrix_gives(size):
    drawn, most = many(size, size), size // 3
    among = np.random.default_rng(1).random(size) < 0.9
    matrix = dense_dominance(drawn)
    np.testing.assert_array_equal(dominators(drawn, among), matrix[among].sum(axis=0))
    rank, left, number = np.full(size, size), among.copy(), 0
    while left.any():
        front = left & ~matrix[left].any(axis=0)
        rank[front] = number
        left, number = left & ~front, number + 1
    np.testing.assert_array_equal(ranks(drawn, among), rank)
    through = (rank[:, None] >= rank).sum(axis=1)
    sure = among & (through <= most)
    cut = rank[among & ~sure].min()
    last = thinned(drawn.values, among & (rank == cut), most - sure.sum())
    np.testing.assert_array_equal(fittest(drawn, among, most), sure | np.asarray(last))
    _, first = np.unique(np.column_stack([drawn.values, drawn.violation]), axis=0, return_index=True)
    kept = np.intersect1d(first, np.flatnonzero(np.isfinite(drawn.violation) & ~matrix.any(axis=0)))
    archive = insert(pareto.empty(size, 1, 3), drawn)
    held = np.isfinite(np.asarray(archive.violation))
    np.testing.assert_array_equal(np.sort(np.asarray(archive.vectors)[held, 0]), kept)


def test_memory_grows_with_the_points_not_with_their_square():
    def temporary(size):
        shapes = jax.eval_shape(lambda: pareto.empty(size, 4, 3))
        among = jax.ShapeDtypeStruct((size,), bool)
        selection = fittest.lower(shapes, among, size // 2).compile().memory_analysis().temp_size_in_bytes
        archiving = insert.lower(shapes, shapes).compile().memory_analysis().temp_size_in_bytes
        return np.array([selection, archiving])

    few, more = temporary(1024), temporary(4096)
    assert (more < 5 * few).all() and (more < 4096**2).all()
