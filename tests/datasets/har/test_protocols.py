"""No subject on two sides, standardisation that knows the training subjects alone, and random windows that say so."""

from __future__ import annotations

import numpy as np
import pytest

from jax_prune.datasets import har
from jax_prune.errors import BadInput

SUBJECTS = (2, 3, 5, 7, 11)


@pytest.fixture
def data(make_set):
    return make_set([300, 200, 250, 150, 300, 400, 220], subjects=[5, 2, 3, 7, 11, 2, 5])


@pytest.fixture
def windows(data):
    return har.cut(data, length=8, hop=3, purity=0.6)


def _identities(part):
    return set(zip(part.recordings.tolist(), part.starts.tolist(), strict=True))


def _check_parts(fold, windows):
    parts = [_identities(part) for part in (fold.train, fold.validation, fold.test)]
    assert all(parts) and set.union(*parts) == _identities(windows)
    assert sum(map(len, parts)) == len(windows.y)


def _check_subjects(fold):
    people = [set(part.subjects.tolist()) for part in (fold.train, fold.validation, fold.test)]
    assert sum(map(len, people)) == len(set.union(*people)) == len(SUBJECTS)
    return people


def _check_scaling(fold):
    x = fold.train.x.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 1)), 1, atol=1e-5)


@pytest.mark.parametrize("validation", [1, 2, (3,), (2, 11)])
def test_held_out_subjects_are_on_one_side_each(windows, validation):
    fold = har.held_out_subjects(windows, (5, 7), validation=validation)
    _check_parts(fold, windows)
    _, validates, tests = _check_subjects(fold)
    assert tests == {5, 7}
    assert validates == (set(validation) if isinstance(validation, tuple) else {1: {11}, 2: {3, 11}}[validation])
    _check_scaling(fold)
    assert fold.warning is None


def test_every_subject_is_left_out_once_and_validates_once(windows):
    folds = list(har.leave_one_subject_out(windows))
    people = [_check_subjects(fold) for fold in folds]
    assert [tests for _, _, tests in people] == [{subject} for subject in SUBJECTS]
    assert sorted(subject for _, validates, _ in people for subject in validates) == list(SUBJECTS)
    for fold in folds:
        _check_parts(fold, windows)
        _check_scaling(fold)


def test_training_windows_do_not_change_with_the_test_subjects_signals(windows):
    fold = har.held_out_subjects(windows, (5, 7), validation=(3,))
    strange = np.where(np.isin(windows.subjects, (3, 5, 7))[:, None, None], 1e3 * windows.x - 7, windows.x)
    other = har.held_out_subjects(windows._replace(x=strange), (5, 7), validation=(3,))
    for before, after in zip(fold.scaling, other.scaling, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(fold.train.x, other.train.x)
    assert not np.array_equal(fold.test.x, other.test.x)


def test_standardisation_is_undone_by_its_scaling(windows):
    fold = har.held_out_subjects(windows, (5, 7))
    tests = windows.take(np.isin(windows.subjects, (5, 7)))
    back = fold.test.x.astype(np.float64) * fold.scaling.deviation + fold.scaling.mean
    np.testing.assert_allclose(back, tests.x, rtol=1e-5, atol=1e-4)


def test_splits_are_the_folds_windows(windows):
    fold = har.held_out_subjects(windows, (5, 7))
    splits = fold.splits
    assert splits.train.x is fold.train.x and splits.validation.y is fold.validation.y
    assert splits.test().x is fold.test.x and splits.classes == 3


@pytest.mark.parametrize(("seed", "folds", "hop"), [(0, 2, 3), (1, 5, 4), (2, 10, 5)])
def test_random_windows_test_each_window_once_and_count_what_leaks(data, seed, folds, hop):
    windows = har.cut(data, length=8, hop=hop, purity=0.6)
    tested = []
    for fold in har.random_windows(seed, windows, folds=folds):
        _check_parts(fold, windows)
        _check_scaling(fold)
        tested += list(_identities(fold.test))
        others = _identities(fold.train) | _identities(fold.validation)
        mine = _identities(fold.test)
        shared = sum(any(r == s and abs(a - b) < 8 for s, b in others) for r, a in mine)
        assert 0 < shared <= len(mine)
        assert f"{shared} of {len(mine)} test windows share samples" in fold.warning
    assert len(tested) == len(set(tested)) == len(windows.y)


def test_random_windows_repeat_with_their_seed(windows):
    first, again, other = (next(har.random_windows(seed, windows)) for seed in (3, 3, 4))
    assert _identities(first.test) == _identities(again.test) != _identities(other.test)


@pytest.mark.parametrize(
    ("test", "validation", "match"),
    [
        ((4,), 1, "test subjects 4: name each once, of 2, 3, 5, 7, 11"),
        ((5, 5), 1, "name each once"),
        ((5,), (13,), "validation subjects 13"),
        ((5,), (5,), "5 would validate and test"),
        ((), 1, "0 would test"),
        ((5,), 0, "0 validate"),
        ((5,), 4, "4 validate"),
        ((2, 3, 5, 7), 1, "4 would test and 1 validate"),
        ((2, 3, 5, 7, 11), 1, "each part, training too"),
    ],
)
def test_parts_that_cannot_be(windows, test, validation, match):
    with pytest.raises(BadInput, match=match) as caught:
        har.held_out_subjects(windows, test, validation=validation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("folds", "validation"), [(1, 0.1), (10**6, 0.1), (5, 0.0), (5, 1.0)])
def test_random_parts_that_cannot_be(windows, folds, validation):
    with pytest.raises(BadInput, match="cannot be"):
        next(har.random_windows(0, windows, folds=folds, validation=validation))


def test_an_activity_that_nobody_trains_on_is_refused(windows):
    only = windows.take((windows.y != 1) | (windows.subjects == 5))
    with pytest.raises(BadInput, match="no training window shows activity 1"):
        har.held_out_subjects(only, (5,))


def test_a_dead_channel_is_refused(windows):
    dead = windows.x.copy()
    dead[..., 1] = 3.25
    with pytest.raises(BadInput, match="b never changes"):
        har.held_out_subjects(windows._replace(x=dead), (5,))
