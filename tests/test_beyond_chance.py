"""What is kept is better on examples of its own beyond chance, by the paired test; else the first known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from jax_prune import beyond_chance, evosearch, nets
from jax_prune.beyond_chance import BEYOND, judged, least, standard_errors
from jax_prune.pruning import channel_scores, groups, masks
from jax_prune.types import Batch

EXAMPLES = 70


class Units(nnx.Module):
    """Three units, each its own input's, summed: the loss is what the masked ones leave out."""

    def __init__(self):
        self.first = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))
        self.last = nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(0))
        self.first.kernel[...] = jnp.diag(jnp.float32([3, 2, 1]))
        self.last.kernel[...] = jnp.ones((3, 1))

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def masked_loss(loss):
    net = nets.from_nnx(Units())
    x = np.random.default_rng(0).uniform(1, 2, (EXAMPLES, 3)).astype(np.float32)
    found = groups.trace(net, x[:1])
    ranks = masks.ranks(channel_scores.magnitude(net.params, found))
    return evosearch.masked_loss(net, found, ranks, Batch(x, np.asarray(net(x))), loss, chunk=20)


def missing(outputs, batch):
    return (batch.y - outputs)[:, 0]


def nothing(outputs, batch):
    return batch.y[:, 0] + 0 * outputs[:, 0]


@pytest.mark.parametrize(("shift", "examples"), [(0.0, 20), (0.3, 200), (-0.2, 77)])
def test_standard_errors_are_those_of_the_paired_t_test(shift, examples):
    rng = np.random.default_rng(examples)
    own, noise = rng.normal(size=examples), rng.normal(size=examples)
    expected = stats.ttest_rel(own + shift + 0.1 * noise, own).statistic
    assert standard_errors(own, own + shift + 0.1 * noise) == pytest.approx(expected)


def test_equal_losses_and_single_examples_tell_nothing():
    same = np.ones(5)
    assert standard_errors(same, same) == 0 == standard_errors(np.zeros(1), np.ones(1))
    assert standard_errors(same, same + 1) == np.inf and standard_errors(same + 1, same) == -np.inf


def test_the_first_stays_unless_another_is_lower_beyond_chance():
    rng = np.random.default_rng(1)
    first = rng.normal(size=400)
    noise = rng.normal(size=400)
    noise = (noise - noise.mean()) / noise.std(ddof=1)  # a standard error of 1 / 20
    for z in (0.0, BEYOND - 0.1, BEYOND + 0.1):
        losses = {"first": first, "other": first + noise - z / 20}
        assert least(["first", "other"], losses) == ("other" if z > BEYOND else "first")
        assert least(["other", "first"], losses) == "other"


def test_what_loses_less_is_kept_and_every_loss_is_told():
    masked = masked_loss(missing)
    known = {"uniform": np.array([1]), "lamp": np.array([1])}
    verdict = judged(masked, known, np.array([2]))
    assert (verdict.kept, verdict.against, verdict.examples) == ("search", "uniform", EXAMPLES)
    for name, kept in (known | {"search": np.array([2])}).items():
        assert verdict.losses[name] == pytest.approx(float(masked(jnp.asarray(kept)).loss), rel=1e-5)
    assert verdict.z["search"] > BEYOND and verdict.z["lamp"] == verdict.z["uniform"] == 0


def test_the_best_known_is_what_the_found_must_beat():
    known = {"uniform": np.array([1]), "lamp": np.array([3])}
    verdict = judged(masked_loss(missing), known, np.array([2]))
    assert verdict.kept == verdict.against == "lamp" and verdict.z["search"] < 0 and verdict.z["uniform"] < 0


def test_where_losses_do_not_differ_the_first_is_kept():
    verdict = judged(masked_loss(nothing), {"uniform": np.array([1]), "lamp": np.array([3])}, np.array([2]))
    assert verdict.kept == verdict.against == "uniform" and set(verdict.z.values()) == {0.0}


def test_a_network_without_a_path_is_out_however_little_it_loses():
    def more(outputs, batch):
        return outputs[:, 0]

    masked, dead = masked_loss(more), np.array([0])
    assert judged(masked, {"uniform": np.array([3])}, dead).kept == "uniform"
    assert judged(masked, {"uniform": dead}, np.array([3])).kept == "search"
    assert judged(masked, {"uniform": dead, "lamp": np.array([2])}, np.array([3])).kept == "lamp"
    assert judged(masked, {"uniform": dead}, dead).kept == "uniform"
    assert beyond_chance.FOUND == "search"


def test_a_loss_that_is_not_finite_is_out():
    def broken(outputs, batch):
        return jnp.where(outputs[:, 0] > 6, jnp.nan, batch.y[:, 0])

    assert judged(masked_loss(broken), {"uniform": np.array([3])}, np.array([1])).kept == "search"
    assert judged(masked_loss(broken), {"uniform": np.array([1])}, np.array([3])).kept == "uniform"
