"""Two limbs against Python's own integers."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.pruning import wide

UINT32 = st.integers(0, 2**32 - 1)
LONG = st.integers(0, 2**63 - 1)
product, add, total, at_most = (jax.jit(function) for function in (wide.product, wide.add, wide.total, wide.at_most))


def exact(value):
    return int(wide.to_numpy(value))


@pytest.mark.compat
@settings(deadline=None, max_examples=200)
@given(left=UINT32, right=UINT32)
def test_products(left, right):
    assert exact(product(np.uint32(left), np.uint32(right))) == left * right


@pytest.mark.compat
@settings(deadline=None, max_examples=200)
@given(left=LONG, right=LONG)
def test_sums_and_order(left, right):
    pair = wide.of(left), wide.of(right)
    assert exact(add(*pair)) == left + right
    assert bool(at_most(*pair)) == (left <= right)
    assert exact(wide.minimum(*pair)) == min(left, right)
    assert exact(wide.subtract(wide.of(max(left, right)), wide.of(min(left, right)))) == abs(left - right)


@settings(deadline=None, max_examples=100)
@given(values=st.lists(st.integers(0, 2**56), min_size=5, max_size=5))
def test_totals(values):
    stacked = jax.tree.map(lambda *limbs: np.stack(limbs), *map(wide.of, values))
    assert exact(total(stacked)) == sum(values)
    owned = wide.to_numpy(wide.totals(stacked, np.asarray([1, 0, 1, 2, 0]), 3))
    assert owned.tolist() == [values[1] + values[4], values[0] + values[2], values[3]]


def test_the_most_entries_that_a_total_may_have():
    ones = np.full(2**16, 2**32 - 1, np.uint32)
    assert exact(total(wide.Wide(np.zeros_like(ones), ones))) == 2**16 * (2**32 - 1)
