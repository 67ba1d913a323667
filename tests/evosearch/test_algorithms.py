"""The pieces of differential evolution, against definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.evosearch import Score
from jax_prune.evosearch.score import better, index_of_best
from jax_prune.evosearch.vectors import around, distinct, latin_hypercube, reflect
from jax_prune.types import Bounds


@given(population=st.sampled_from([4, 5, 17]), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_partners_differ_from_each_other_and_from_the_slot(population, seed):
    partners = np.asarray(distinct(jax.random.uniform(jax.random.key(seed), (3, population))))
    together = np.vstack([np.arange(population), partners])
    assert together.min() >= 0 and together.max() < population
    assert all(len(set(column)) == 4 for column in together.T)


def test_partners_are_uniform_over_all_choices():
    draws = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in (4, 3, 2)], indexing="ij"), -1).reshape(-1, 3)
    seen = set()
    for draw in draws:
        seen.add(tuple(np.asarray(distinct(jnp.asarray(np.repeat(draw[:, None], 5, axis=1), jnp.float32)))[:, 2]))
    # 24 equally likely draws give the 24 ordered choices of three from the four others
    assert len(seen) == 24 and all(2 not in choice for choice in seen)


def test_largest_uniform_stays_in_range():
    edge = jnp.full((3, 5), np.nextafter(np.float32(1), np.float32(0)))
    assert int(distinct(edge).max()) <= 4


def test_partners_of_a_large_population_take_linear_memory():
    compiled = jax.jit(distinct).lower(jax.ShapeDtypeStruct((3, 10_000), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100 * 10_000


@given(
    value=st.floats(-30, 30, width=32, allow_subnormal=False),  # XLA on CPU flushes subnormals to zero
    lower=st.floats(-5, 5, width=32, allow_subnormal=False),
    width=st.sampled_from([0.0, 0.125, 1.0, 7.0]),
)
@settings(max_examples=80, deadline=None)
def test_reflection_is_what_two_mirrors_do(value, lower, width):
    upper = np.float32(lower + width)
    expected = float(value)
    while width and not lower <= expected <= upper:
        expected = 2 * lower - expected if expected < lower else 2 * float(upper) - expected
    expected = expected if width else lower
    box = Bounds(jnp.asarray([lower], jnp.float32), jnp.asarray([upper], jnp.float32))
    found = float(reflect(jnp.asarray([value], jnp.float32), box)[0])
    assert lower <= found <= upper
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_latin_hypercube_hits_every_slice_of_every_axis():
    box = Bounds(jnp.asarray([0.0, -2.0]), jnp.asarray([1.0, 6.0]))
    vectors = np.asarray(latin_hypercube(jax.random.key(3), 16, box), np.float64)
    slices = np.floor((vectors - np.asarray(box.lower)) / (np.asarray(box.upper) - np.asarray(box.lower)) * 16)
    np.testing.assert_array_equal(np.sort(slices, axis=0), np.repeat(np.arange(16)[:, None], 2, axis=1))


scores = st.lists(st.sampled_from([0.0, 1.0, 2.0, float("inf")]), min_size=1, max_size=6)


@given(values=scores, data=st.data())
@settings(max_examples=40, deadline=None)
def test_order_is_lexicographic(values, data):
    size = len(values)
    violations = data.draw(st.lists(st.sampled_from([0.0, 1.0, float("inf")]), min_size=size, max_size=size))
    score = Score(jnp.asarray(values, jnp.float32), jnp.asarray(violations, jnp.float32))
    pairs = list(zip(violations, values, strict=True))
    assert int(index_of_best(score)) == pairs.index(min(pairs))
    left = jax.tree.map(lambda leaf: leaf[:, None], score)
    expected = [[one <= two for two in pairs] for one in pairs]
    np.testing.assert_array_equal(better(left, score), expected)


@given(seed=st.integers(0, 2**31 - 1), place=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_around_stays_near_and_inside(seed, place):
    box = Bounds(np.array([-3.0, 0.0, 2.0], np.float32), np.array([1.0, 10.0, 2.0], np.float32))
    width = np.asarray(box.upper) - box.lower
    centre = box.lower + np.float32(place) * width
    found = np.asarray(around(jax.random.key(seed), centre, 500, box))
    assert found.shape == (500, 3) and (found >= box.lower).all() and (found <= box.upper).all()
    away = (found - centre)[:, :2] / width[:2]
    assert np.abs(away).max() < 0.04 * 6 and len(np.unique(found[:, 0])) > 400
    if 0.2 < place < 0.8:
        np.testing.assert_allclose(away.std(axis=0), 0.04, rtol=0.2)
