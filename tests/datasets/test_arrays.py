"""Users' own arrays and batches: what comes in comes out, what is unfit is refused in one line."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import datasets
from jax_prune.errors import BadInput
from jax_prune.types import Batch

X, Y = np.arange(24, dtype=np.float32).reshape(6, 4), np.array([0, 1, 2, 0, 1, 2], np.int32)


def _refused(match, function, *arguments, **options):
    with pytest.raises(BadInput, match=match) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_narrows_64_bits_keeps_the_rest_and_serves_trees():
    x = {"a": X.astype(np.float64), "b": jnp.asarray(X, jnp.bfloat16)}
    batch = datasets.from_arrays(x, Y.astype(np.int64))
    assert batch.x["a"].dtype == np.float32 and batch.y.dtype == np.int32
    assert batch.x["b"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(batch.x["a"], X)
    assert datasets.from_arrays(X.astype(np.uint8), Y).x.dtype == np.uint8


def test_a_list_is_stacked():
    batch = datasets.from_arrays(list(X), [0, 1, 2, 0, 1, 2], classes=3)
    np.testing.assert_array_equal(batch.x, X)
    np.testing.assert_array_equal(batch.y, Y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_placed(bad):
    x = X.copy()
    x[4, 1] = x[5, 0] = bad
    _refused(r"x has 2 NaN or infinite value\(s\), the first in example 4", datasets.from_arrays, x, Y)
    _refused("y has 1 NaN", datasets.from_arrays, X, np.array([0, 1, 2, 3, 4, bad]))
    _refused("x has 2 NaN", datasets.from_arrays, jnp.asarray(x, jnp.bfloat16), Y)


def test_values_beyond_32_bits_are_refused():
    _refused("NaN or infinite", datasets.from_arrays, np.full((6, 1), 1e300), Y)
    _refused("beyond int32", datasets.from_arrays, np.full((6, 1), 2**40), Y)
    _refused("beyond uint32", datasets.from_arrays, np.full((6, 1), 2**63, np.uint64), Y)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (X, Y[:5], "x has 6, y has 5 examples"),
        ((X, X[:5]), Y, r"x\[0\] has 6, x\[1\] has 5"),
        (X[:0], Y[:0], "no examples"),
        ([[1, 2], [3]], [0, 1], "x cannot be made one array|x holds object"),
        (np.array(["a"] * 6), Y, "x holds"),
        (np.array([None] * 6), Y, "x holds object"),
        (np.float32(3), Y, "x is a single value"),
        ({}, Y, "x holds no array"),
        (X, None, "y holds no array"),
    ],
)
def test_unfit_arrays(x, y, match):
    _refused(match, datasets.from_arrays, x, y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.array([0, 1, 3, 0, 1, 2]), "1 label.* outside 0 to 2, the first is 3 in example 2"),
        (np.array([0, 1, 2, 0, -1, 2]), "the first is -1 in example 4"),
        (Y.astype(np.float32), "y is float32"),
        (np.eye(3, dtype=np.int32)[Y], r"y is int32 \[6, 3\]"),
        ({"a": Y}, "y is dict"),
    ],
)
def test_unfit_labels(y, match):
    _refused(match, datasets.from_arrays, X, y, classes=3)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 40))
def test_batches_stack_to_the_arrays_they_were_cut_from(lengths, examples):
    total = sum(lengths)
    x, y = np.arange(3 * total, dtype=np.float32).reshape(total, 3), np.arange(total)
    ends = np.cumsum(lengths)
    parts = [(x[end - n : end], y[end - n : end]) for end, n in zip(ends, lengths, strict=True)]
    whole = datasets.from_batches(iter(parts))
    np.testing.assert_array_equal(whole.x, x)
    np.testing.assert_array_equal(whole.y, y)
    some = datasets.from_batches((Batch(*part) for part in parts), examples=examples)
    np.testing.assert_array_equal(some.x, x[:examples])


def test_an_endless_stream_ends_at_the_examples_asked_for():
    def stream():
        while True:
            yield X, Y

    assert datasets.from_batches(stream(), examples=13, classes=3).x.shape == (13, 4)


def test_unfit_batches_are_placed():
    _refused("gave no batch", datasets.from_batches, iter([]))
    _refused("batch 1 is dict of length 2", datasets.from_batches, [(X, Y), {"x": X, "y": Y}])
    _refused("batch 0 is ndarray of length 6", datasets.from_batches, [X])
    _refused("batch 1 differs from batch 0", datasets.from_batches, [(X, Y), (X[:, :2], Y)])
    _refused("batch 1 differs", datasets.from_batches, [(X, Y), (X.astype(np.uint8), Y)])
    _refused("batch 1 differs", datasets.from_batches, [(X, Y), ((X,), Y)])
    _refused("batch 1: x has 24 NaN", datasets.from_batches, [(X, Y), (X * np.nan, Y)])
    _refused("outside 0 to 1", datasets.from_batches, [(X, Y)], classes=2)


def test_hold_out_takes_the_last():
    train, validation = datasets.hold_out(Batch(X, Y), 2)
    np.testing.assert_array_equal(train.x, X[:4])
    np.testing.assert_array_equal(validation.y, Y[4:])
    assert [len(part.y) for part in datasets.hold_out(Batch(np.zeros((300, 1)), np.zeros(300)))] == [270, 30]
    assert len(datasets.hold_out(Batch(np.zeros((90_000, 1)), np.zeros(90_000)))[1].y) == 5_000
    for count in (0, 6, -1):
        _refused("cannot hold", datasets.hold_out, Batch(X, Y), count)
