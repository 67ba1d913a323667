"""The first layer's products kept at some counts: the same losses, whoever computes them from wherever."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config
from jax_prune.evosearch.first_layer import counts_kept

pytestmark = pytest.mark.optimized

ALL = Bounds(np.zeros(3), np.ones(3))
evaluate = jax.jit(lambda masked, kept: masked(kept))


def test_means_are_those_of_the_oracle_at_every_count(problem, loss, metric, oracle):
    plain = evosearch.masked_loss(*problem, loss, metric, chunk=30)
    cached = plain.cached(ALL)
    assert cached.first_layer is not None
    for first in (0, 1, 7, 40, 83, 84):
        kept = (first, 60, 30)
        means = evaluate(cached, jnp.asarray(kept, jnp.int32))
        np.testing.assert_allclose(means, oracle(problem, kept), rtol=1e-5)
        np.testing.assert_allclose(means.loss, evaluate(plain, jnp.asarray(kept, jnp.int32)).loss, rtol=1e-5)


def test_where_the_kept_products_lie_does_not_matter(problem, loss):
    plain = evosearch.masked_loss(*problem, loss, chunk=30)
    one = 2 * 4 * 72 * 12  # bytes of the products of one count, twice
    several = [plain.cached(ALL, memory) for memory in (2 * one, 4 * one, 2**30)]
    assert [len(masked.first_layer.counts) for masked in several] == [2, 4, 65]
    for first in (0, 5, 33, 84):
        kept = jnp.asarray([first, 60, 30], jnp.int32)
        assert len({float(evaluate(masked, kept).loss) for masked in several}) == 1  # to the last bit


def test_memory_bounds_what_is_kept(problem, loss):
    plain = evosearch.masked_loss(*problem, loss, chunk=35)
    one = 2 * 4 * 70 * 12
    assert plain.cached(ALL, 2 * one - 1) is plain
    for memory in (2 * one, 5 * one, 20 * one):
        layer = plain.cached(ALL, memory).first_layer
        assert layer.products.nbytes <= memory and layer.products.shape == (2, len(layer.counts), 12, 35)


def test_counts_span_the_bounds_and_start_at_nothing():
    np.testing.assert_array_equal(counts_kept(10, 50, 5), [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(counts_kept(3, 3, 2), [0, 3, 3])


@pytest.mark.parametrize("race", ["exact", "none"])
def test_a_search_with_it_finds_what_one_without_finds(problem, loss, race):
    plain = evosearch.masked_loss(*problem, loss, chunk=9)
    ratios = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
    config, box = Config(population=10, generations=9, race=race), evosearch.genome_box(plain.sizes, ratios)
    found = [
        evosearch.search(jax.random.key(0), config, box, evosearch.budget_loss(masked, 70, ratios))
        for masked in (plain, plain.cached(ratios))
    ]
    np.testing.assert_allclose(found[0].score.value, found[1].score.value, rtol=1e-5)
    np.testing.assert_array_equal(found[0].best, found[1].best)


def test_new_weights_ranks_and_data_are_the_same_program(make, loss):
    before = evaluate._cache_size()
    for seed in range(3):
        masked = evosearch.masked_loss(*make(seed), loss, chunk=21).cached(ALL, 2 * 4 * 84 * 12 * 4)
        evaluate(masked, jnp.asarray([30, 30, 20], jnp.int32))
    assert evaluate._cache_size() == before + 1
