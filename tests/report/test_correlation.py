"""Spearman's rho against an oracle in NumPy, and what the report says of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_prune.report import Baselines, Tuned, correlation, correlations, figures, page, rank_correlation, text


def ranks(values):
    """Mean rank of every value: half of what is alike counts as below."""
    values = np.asarray(values)
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=12))
def test_rho_is_the_correlation_of_mean_ranks(pairs):
    before, after = zip(*pairs, strict=True)
    found = rank_correlation(before, after)
    if len(set(before)) == 1 or len(set(after)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(ranks(before), ranks(after))[0, 1], abs=1e-9)
        assert found == pytest.approx(rank_correlation([np.exp(value) for value in before], after))


def test_fewer_than_four_points_say_nothing():
    points = tuple(Tuned(name, 0, 1, float(rank), float(rank)) for rank, name in enumerate("abcd"))
    assert [(entry.round, entry.points, entry.rho) for entry in correlations(points)] == [(1, 4, pytest.approx(1))]
    missing = dataclasses.replace(points[0], loss=None)
    assert correlations(points[1:]) == correlations((missing, *points[1:])) == ()
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None


def test_the_report_says_it_in_one_sentence_with_its_number_of_points(example):
    said = correlation.sentence(example)
    assert "after: 0.94 over 6 allocations (earlier: 0.94 in round 5)." in said
    pytest.importorskip("matplotlib")
    source = page.html(example)
    assert "Loss before tuning, error after" in source and "0.94 over 6 allocations" in source
    assert said in text.markdown(example)
    assert figures.before_and_after(example).count("global magnitude") == 1


def test_nothing_is_shown_where_there_is_nothing(bare, example):
    few = dataclasses.replace(example, baselines=Baselines(outcomes=example.baselines.outcomes))
    for report in (bare, few):
        assert correlation.sentence(report) == figures.before_and_after(report) == ""
        assert "Spearman" not in page.html(report) + text.markdown(report)
    assert "Allocators, whole pipeline" in page.html(few)
