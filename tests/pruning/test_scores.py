"""Scores against their formulas in NumPy; NaN is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune.errors import BadInput
from jax_prune.pruning import groups, scores

RNG = np.random.default_rng(0)
PARAMS = {
    "a": {"kernel": RNG.normal(size=(3, 4)), "bias": RNG.normal(size=4)},
    "b": {"kernel": RNG.normal(size=(4, 2))},
}
SLOPES = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), PARAMS)
GROUPS = groups.weight_groups(PARAMS)


def flat(tree):
    return [np.concatenate([tree["a"]["kernel"].ravel(), tree["a"]["bias"]]), tree["b"]["kernel"].ravel()]


@pytest.mark.parametrize(
    ("found", "formula"),
    [
        (scores.magnitude(PARAMS, GROUPS), lambda w, g: np.abs(w)),
        (scores.taylor(PARAMS, SLOPES, GROUPS), lambda w, g: np.abs(w * g)),
        (scores.fisher(PARAMS, jax.tree.map(np.square, SLOPES), GROUPS), lambda w, g: np.abs(w) * np.abs(g)),
    ],
)
def test_formulas(found, formula):
    for score, weight, slope in zip(found, flat(PARAMS), flat(SLOPES), strict=True):
        np.testing.assert_allclose(score, formula(weight, slope), rtol=1e-5)


def test_random_scores_follow_the_key():
    first, again, other = (scores.random(jax.random.key(seed), GROUPS) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    assert [len(score) for score in first] == [group.size for group in GROUPS]


def test_nan_weights_name_their_layer():
    broken = {**PARAMS, "b": {"kernel": jnp.full((4, 2), jnp.nan)}}
    with pytest.raises(BadInput, match="layer b has NaN"):
        scores.magnitude(broken, GROUPS)
