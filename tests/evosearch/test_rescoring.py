"""Products in bfloat16, and what the search found scored again in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config, Score

RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.75]))
BOX = Bounds(np.full(3, -1.0), np.full(3, 1.0))
CONFIG = Config(population=8, generations=6)


def both(problem, loss, metric=None):
    return [evosearch.masked_loss(*problem, loss, metric, chunk=6, precision=name) for name in ("bfloat16", "float32")]


def test_losses_are_float32_and_the_oracles_but_for_rounding(problem, loss, metric, oracle):
    rounded, exact = both(problem, loss, metric)
    assert {value.dtype for value in rounded.chunks.values} == {jnp.dtype(jnp.bfloat16)}
    for kept in ((84, 80, 30), (40, 50, 20), (84, 104, 30)):
        means = jax.jit(lambda masked, kept: masked(kept))(rounded, jnp.asarray(kept))
        assert means.loss.dtype == means.metric.dtype == jnp.float32
        assert means.loss != exact(jnp.asarray(kept)).loss
        np.testing.assert_allclose(means.loss, oracle(problem, kept)[0], rtol=0.03, atol=0.01)
    outputs = jax.eval_shape(rounded.prepare, jnp.asarray(kept)), jax.eval_shape(exact.prepare, jnp.asarray(kept))
    assert outputs[0] == outputs[1]


def test_the_first_layers_products_are_for_float32(problem, loss):
    rounded, exact = both(problem, loss)
    assert rounded.cached(RATIOS) is rounded and exact.cached(RATIOS).first_layer is not None
    assert exact.cached(RATIOS).at_precision("bfloat16").first_layer is None
    with pytest.raises(BadInput, match="unknown precision 'float16': known are float32, bfloat16"):
        exact.at_precision("float16")


def test_new_weights_and_data_are_the_same_program(make, loss):
    evaluate = jax.jit(lambda masked, kept: masked(kept))
    for seed in range(3):
        evaluate(evosearch.masked_loss(*make(seed), loss, precision="bfloat16"), jnp.asarray([30, 30, 20]))
    assert evaluate._cache_size() == 1


@pytest.mark.parametrize("race", ["exact", "paired", "none"])
@pytest.mark.parametrize("seed", range(2))
def test_the_winner_is_never_worse_in_float32_than_the_searchs_own(make, loss, race, seed):
    rounded, exact = (evosearch.budget_loss(masked, 70, RATIOS) for masked in both(make(seed), loss))
    config = Config(population=8, generations=6, race=race)
    result = evosearch.search(jax.random.key(seed), config, rounded.box, rounded)
    found = evosearch.rescored(result, rounded, exact, most=5)
    own, score = exact(jnp.asarray(result.best)), exact(jnp.asarray(found.best))
    np.testing.assert_allclose(found.score.value, score.value, rtol=1e-6)
    assert score.value <= own.value and (found.changed or score.value == own.value)
    assert len(found.vectors) == 5 == len({tuple(np.asarray(exact.kept(jnp.asarray(v)))) for v in found.vectors})
    np.testing.assert_array_equal(found.vectors[0], result.best)
    np.testing.assert_allclose(found.score.value, found.after.value.min())
    assert found.changed == (found.after.value.argmin() != 0)
    assert (np.diff(found.before.value[1:]) >= 0).all()


@given(shift=st.floats(-0.5, 0.5), most=st.integers(1, 60))
@settings(max_examples=15, deadline=None)
def test_the_exact_fitness_decides_among_the_best(shift, most):
    rough = jax.tree_util.Partial(lambda s, x: jnp.sum(x**2), jnp.float32(shift))
    exact = jax.tree_util.Partial(lambda s, x: jnp.sum((x - s) ** 2), jnp.float32(shift))
    result = evosearch.search(jax.random.key(0), CONFIG, BOX, rough)
    found = evosearch.rescored(result, rough, exact, most=most)
    every = np.unique(result.info.vectors.reshape(-1, 3), axis=0)
    best = every[np.argsort((every**2).sum(1), kind="stable")][:most]
    np.testing.assert_allclose(np.sort(found.before.value), np.sort((best**2).sum(1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.score.value, ((best - shift) ** 2).sum(1).min(), rtol=1e-4, atol=1e-6)


def test_it_goes_on_until_something_is_feasible():
    def rough(x):
        return jnp.sum(x)

    def exact(x):
        return Score(jnp.sum(x), jnp.maximum(0.0, 0.5 - jnp.sum(x)))

    result = evosearch.search(jax.random.key(0), CONFIG, BOX, rough)
    found = evosearch.rescored(result, rough, exact, most=4)
    sums = result.info.vectors.sum(-1)
    assert found.score.violation == 0 and found.changed and len(found.vectors) > 4
    np.testing.assert_allclose(found.score.value, sums[sums >= 0.5].min(), rtol=1e-5)
    never = evosearch.rescored(result, rough, lambda x: Score(x[0], 9 - x[0]), most=4)
    assert never.score.violation > 0
    np.testing.assert_allclose(never.best[0], result.info.vectors[..., 0].max(), rtol=1e-6)
