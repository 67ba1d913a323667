"""Windows as a loop over samples would cut them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jax_prune.datasets import har
from jax_prune.errors import BadInput


def _naive(data, length, hop, purity, names):
    """(recording, start, label) of every window, sample by sample."""
    found = []
    for index, (samples, activity, _) in enumerate(data.recordings):
        start = 0
        while start + length <= len(samples):
            counts = Counter(activity[start : start + length].tolist())
            label, count = max(sorted(counts.items()), key=lambda item: item[1])
            if label >= 0 and data.activities[label] in names and count / length >= purity:
                found.append((index, start, names.index(data.activities[label])))
            start += hop
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    length=st.integers(1, 20),
    hop=st.integers(1, 25),
    purity=st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]),
    scenario=st.sampled_from(["all", "few"]),
)
def test_a_loop_over_samples_gives_the_same(make_set, lengths, seed, length, hop, purity, scenario):
    data = make_set(lengths, seed)
    names = data.scenarios[scenario]
    expected = _naive(data, length, hop, purity, names)
    takers = {
        each.subject
        for each in data.recordings
        if (each.activity == -1).all() or any(data.activities[a] in names for a in each.activity if a >= 0)
    }
    if takers - {data.recordings[index].subject for index, _, _ in expected}:
        with pytest.raises(BadInput, match="have no window"):
            har.cut(data, length=length, hop=hop, purity=purity, scenario=scenario)
        return
    windows = har.cut(data, length=length, hop=hop, purity=purity, scenario=scenario)
    assert list(zip(*(a.tolist() for a in (windows.recordings, windows.starts, windows.y)), strict=True)) == expected
    for x, (index, start, _) in zip(windows.x, expected, strict=True):
        np.testing.assert_array_equal(x, data.recordings[index].samples[start : start + length])
    assert windows.subjects.tolist() == [data.recordings[index].subject for index, _, _ in expected]
    assert windows.activities == names


def test_shapes_and_dtypes(make_set):
    windows = har.cut(make_set([80, 90]), length=7, hop=3, purity=0.4)
    count = len(windows.y)
    assert windows.x.shape == (count, 7, 2) and windows.x.dtype == np.float32 and windows.x.flags.c_contiguous
    for part in (windows.y, windows.subjects, windows.recordings, windows.starts):
        assert part.shape == (count,) and part.dtype == np.int32
    assert windows.batch.x is windows.x and windows.batch.y is windows.y


def test_purity_keeps_fewer_and_fewer(make_set):
    data = make_set([400, 500])
    kept = [
        set(zip(w.recordings.tolist(), w.starts.tolist(), strict=True))
        for w in (har.cut(data, length=6, hop=2, purity=p) for p in (0.2, 0.5, 0.8, 1.0))
    ]
    assert kept[0] > kept[1] > kept[2] > kept[3]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"length": 0, "hop": 1}, "length 0"),
        ({"length": 5, "hop": 0}, "hop 0"),
        ({"length": 5, "hop": 1, "purity": 0.0}, "purity 0"),
        ({"length": 5, "hop": 1, "purity": 1.1}, "purity 1.1"),
        ({"length": 5, "hop": 1, "scenario": "dance"}, "no scenario 'dance'; choose from all, few"),
        ({"length": 70, "hop": 1, "purity": 0.1}, r"subject\(s\) 1 have no window of 70 samples"),
        ({"length": 700, "hop": 1}, r"subject\(s\) 0, 1 have no window"),
    ],
)
def test_settings_that_fit_nothing(make_set, options, match):
    with pytest.raises(BadInput, match=match) as caught:
        har.cut(make_set([80, 60]), **options)
    assert "\n" not in str(caught.value)


def test_nobody_is_missed_who_has_no_part_in_the_scenario():
    recordings = [har.Recording(np.ones((9, 1)) * s, np.full(9, s), s) for s in (0, 1)]
    data = har.gather(recordings, activities=["sit", "run"], channels=["a"], rate=50, scenarios={"calm": ["sit"]})
    assert set(har.cut(data, length=3, hop=3, scenario="calm").subjects.tolist()) == {0}


def _gather(samples, activity, **options):
    known = {"activities": ["sit", "run"], "channels": ["a", "b"], "rate": 50, "name": "mine", **options}
    return har.gather(
        [har.Recording(np.ones((4, 2)), np.zeros(4, int), 1), har.Recording(samples, activity, 7)], **known
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_missing_samples_are_named(value):
    samples = np.ones((5, 2))
    samples[3, 1] = value
    with pytest.raises(BadInput, match=r"mine: recording 1 \(subject 7\) has 1 NaN .* sample 3 of b"):
        _gather(samples, np.zeros(5, int))


@pytest.mark.parametrize(
    ("samples", "activity", "options", "match"),
    [
        (np.ones((5, 2)), [0, 0, 2, 0, 0], {}, "unknown activity 2 at sample 2"),
        (np.ones((5, 2)), [0, 0, 0, 0, -2], {}, "unknown activity -2 at sample 4"),
        (np.ones((5, 2)), [0, 0], {}, "5 samples and activities"),
        (np.ones((5, 3)), [0] * 5, {}, r"samples \[5, 3\]; needed are \[S, 2\]"),
        (np.ones((0, 2)), np.zeros(0, int), {}, "S above 0"),
        (np.ones((5, 2)), [0.5] * 5, {}, "activities float64"),
        (np.full((5, 2), "x"), [0] * 5, {}, "give real numbers"),
        (np.ones((5, 2)), [0] * 5, {"rate": 0}, "sampling rate of 0"),
        (np.ones((5, 2)), [0] * 5, {"rate": float("nan")}, "sampling rate of nan"),
        (np.ones((5, 2)), [0] * 5, {"scenarios": {"odd": ["fly"]}}, "scenario odd names .*fly"),
    ],
)
def test_unfit_recordings(samples, activity, options, match):
    with pytest.raises(BadInput, match=match) as caught:
        _gather(samples, np.array(activity), **options)
    assert "\n" not in str(caught.value)


def test_no_recordings():
    with pytest.raises(BadInput, match="no recordings"):
        har.gather([], activities=["a"], channels=["c"], rate=50)


def test_channels_are_chosen_by_name(make_set):
    data = make_set([30])
    picked = har.with_channels(data, ["b"])
    np.testing.assert_array_equal(picked.recordings[0].samples[:, 0], data.recordings[0].samples[:, 1])
    assert picked.channels == ("b",)
    for wrong in (["c"], []):
        with pytest.raises(BadInput, match="choose from a, b"):
            har.with_channels(data, wrong)
