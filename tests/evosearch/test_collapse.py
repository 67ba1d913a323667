"""Candidates without a path from input to output are found out, against paths counted in NumPy, and never win."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import evosearch
from jax_prune.evosearch import Bounds, Config, collapse
from jax_prune.types import Batch, Group, Net, Slot

WIDTHS = (5, 6, 4, 3)
LAYERS = ("one", "two", "three")
GROUPS = tuple(
    Group(name, rows * columns, (Slot(f"{name}/kernel"),))
    for name, rows, columns in zip(LAYERS, WIDTHS, WIDTHS[1:], strict=False)
)
EVERYTHING = Bounds(np.zeros(3, np.float32), np.ones(3, np.float32))  # a layer may be emptied


def apply(params, state, x, *, train, key):
    for name in LAYERS:
        x = x @ params[name]["kernel"] + params[name]["bias"]
    return {"logits": x, "constant": jnp.ones((len(x), 2))}, state


def size_of_outputs(outputs, batch):
    """Emptied networks would be the best of all."""
    return jnp.sum(outputs["logits"] ** 2, axis=-1)


def always(outputs, batch):
    return jnp.ones(len(outputs["logits"]))


def make_masked(seed, chunk=7):
    rng = np.random.default_rng(seed)
    params = {
        name: {"kernel": rng.normal(size=(rows, columns)).astype(np.float32), "bias": np.zeros(columns, np.float32)}
        for name, rows, columns in zip(LAYERS, WIDTHS, WIDTHS[1:], strict=False)
    }
    params["three"]["bias"] += 1  # what a collapsed network gives is not zero
    ranks = [rng.permutation(group.size).astype(np.int32) for group in GROUPS]
    x = rng.normal(size=(20, 5)).astype(np.float32)
    net = Net(params, {}, apply, lambda params, state: params)
    return evosearch.masked_loss(net, GROUPS, ranks, Batch(x, x), size_of_outputs, always, chunk=chunk)


def paths(masked, kept):
    """From any input to any output, by the masks alone."""
    through = np.eye(WIDTHS[0], dtype=int)
    for group, rank, count, sides in zip(
        GROUPS, masked.ranks, kept, zip(WIDTHS, WIDTHS[1:], strict=False), strict=True
    ):
        through = through @ (np.asarray(rank) >= group.size - count).reshape(sides).astype(int)
    return int(through.sum())


judged = jax.jit(lambda masked, kept: masked.collapsed(masked.sums(kept), masked.chunk_count))


@pytest.mark.parametrize("chunk", [1000, 7])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 50), kept=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)))
def test_collapsed_is_having_no_path(chunk, seed, kept):
    masked = make_masked(seed, chunk)
    assert bool(judged(masked, jnp.asarray(kept))) == (paths(masked, kept) == 0)


def test_outputs_are_compared_entry_by_entry_with_one_examples():
    def differs(outputs, reference):
        return float(collapse.differs(outputs, reference))

    assert differs({"a": jnp.ones((2, 3)), "b": jnp.zeros(2)}, {"a": jnp.ones((1, 3)), "b": jnp.zeros(1)}) == 0
    assert differs({"a": jnp.ones((2, 3)), "b": jnp.arange(2)}, {"a": jnp.ones((1, 3)), "b": jnp.zeros(1)}) == 1
    assert differs(jnp.ones((2, 3)), 2 * jnp.ones((1, 3))) == 1  # alike among themselves, but not like the one
    for barred in (-1e9, -jnp.inf):  # a class that is never to be chosen does not hide the others
        assert differs(jnp.array([[barred, 0.5]]), jnp.array([[barred, 0.7]])) == 1
        assert differs(jnp.array([[barred, 0.5]]), jnp.array([[barred, 0.5]])) == 0
    assert differs({"a": jnp.ones((2, 3)), "mean": jnp.ones(())}, {"a": jnp.ones((1, 3)), "mean": jnp.ones(())}) == 0
    assert differs(jnp.ones(()), jnp.ones(())) == 1


def test_equal_examples_in_one_chunk_are_no_collapse():
    masked = make_masked(0)
    few = np.repeat(np.asarray(masked.chunks.batch.x).reshape(-1, 5)[:4], 5, axis=0)
    whole = jnp.asarray([group.size for group in GROUPS])
    for x, chunk in ((few, 5), (few[:1], 1)):
        again = evosearch.masked_loss(
            masked.net, GROUPS, masked.ranks, Batch(x, x), size_of_outputs, always, chunk=chunk
        )
        assert float(judged(again, whole)) == 0


@pytest.mark.parametrize(("race", "at_once"), [("exact", 1), ("none", 5)])
def test_what_has_collapsed_never_wins_a_search(race, at_once):
    masked = make_masked(1)
    config = Config(population=12, generations=8, at_once=at_once, race=race)
    for fitness in (
        evosearch.budget_loss(masked, 12, EVERYTHING),
        evosearch.tolerance(masked, reference=1.0, allowed=0.5, bounds=EVERYTHING),
    ):
        result = evosearch.search(jax.random.key(0), config, fitness.box, fitness)
        kept = evosearch.history.seen(result.info, fitness)["kept"].reshape(-1, 3)
        dead = np.asarray([paths(masked, counts) == 0 for counts in kept])
        violation = result.info.score.violation.reshape(-1)
        whole = result.info.exact.reshape(-1)
        assert dead.any() and (violation[dead & whole] == 1).all() and (violation[~dead] == 0).all()
        assert result.score.violation == 0
        vectors = result.info.vectors.reshape(-1, 3)
        assert paths(masked, kept[np.flatnonzero((vectors == result.best).all(axis=1))[0]]) > 0
