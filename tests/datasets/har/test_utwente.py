"""Twente's file: blocks become participants, and every complaint names its row."""

from __future__ import annotations

import numpy as np
import pytest

from jax_prune import cli, datasets
from jax_prune.datasets import har
from jax_prune.errors import BadInput

pytest.importorskip("array_record")
LENGTHS = {11111: 40, 11113: 23, 11118: 21, 11122: 18}
PARTICIPANTS = {11111: 10, 11113: 10, 11118: 7, 11122: 6}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    codes = np.repeat(list(LENGTHS), list(LENGTHS.values()))
    stamps = 1_400_000_000_000 + 20 * np.arange(len(codes))
    return [[stamp, *np.round(rng.normal(size=12), 5), code] for stamp, code in zip(stamps, codes, strict=True)]


@pytest.fixture
def folder(tmp_path, rows):
    return _written(tmp_path / "raw", rows)


def _written(folder, rows, end="\n"):
    folder.mkdir(exist_ok=True)
    text = "\n".join(",".join(str(value) for value in row) for row in rows)
    (folder / "smartphoneatwrist.csv").write_text(text + end)
    return folder


def _refused(match, folder, out):
    with pytest.raises(BadInput, match=match) as caught:
        datasets.prepare("utwente", folder, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_blocks_become_participants(folder, rows, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["data", "prepare", "utwente", "--from", str(folder), "--data_dir", str(out)]) == 0
    data = har.load("utwente", data_dir=out)
    assert data.rate == 50 and len(data.channels) == 12
    assert "the file names no participants" in capsys.readouterr().err
    whole = np.concatenate([each.samples for each in data.recordings])
    np.testing.assert_array_equal(whole, np.array([row[1:13] for row in rows], np.float32))
    codes = np.concatenate([each.activity for each in data.recordings]) + 11111
    assert codes.tolist() == [row[13] for row in rows]
    for code, length in LENGTHS.items():
        mine = [each for each in data.recordings if each.activity[0] == code - 11111]
        assert [each.subject for each in mine] == list(range(1, PARTICIPANTS[code] + 1))
        sizes = [len(each.samples) for each in mine]
        assert sum(sizes) == length and max(sizes) - min(sizes) <= 1


def test_scenarios_part_the_activities(folder, tmp_path):
    datasets.prepare("utwente", folder, tmp_path / "out")
    data = har.load("utwente", data_dir=tmp_path / "out")
    assert data.scenarios["simple"] + data.scenarios["complex"] == data.scenarios["all"] == data.activities
    assert len(data.scenarios["simple"]) == 7 and len(data.scenarios["complex"]) == 6
    windows = har.cut(data, length=2, hop=1, scenario="complex")
    assert {windows.activities[label] for label in windows.y} == {"typing", "smoking"}
    assert set(windows.subjects.tolist()) == set(range(1, 8))


@pytest.mark.parametrize(
    ("row", "column", "value", "match"),
    [
        (30, 4, "NaN", r"line 30 has a missing sample \(NaN\) in column 5"),
        (30, 4, "", "line 30 has '' in column 5, not a number"),
        (1, 0, "timestamp", "line 1 has 'timestamp' in column 1"),
        (55, 13, 11199, "row 55 has unknown activity code 11199; known are 11111 to 11123"),
        (102, 13, 1112, "row 102 has unknown activity code 1112"),
        (80, 13, 11111, "row 80 begins a second block of walking"),
    ],
)
def test_unfit_rows(row, column, value, match, rows, tmp_path):
    rows[row - 1][column] = value
    _refused(match, _written(tmp_path / "raw", rows), tmp_path / "out")


@pytest.mark.parametrize("columns", [1, 5, 13])
def test_a_torn_last_line(columns, rows, tmp_path):
    rows[-1] = rows[-1][:columns]
    _refused(
        f"csv: line 102 has {columns} columns where 14", _written(tmp_path / "raw", rows, end=""), tmp_path / "out"
    )


def test_a_block_too_short_to_share(rows, tmp_path):
    _refused(
        "row 85 begins 5 rows of smoking, fewer than its 6", _written(tmp_path / "raw", rows[:89]), tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("step", "fits"), [(20, True), (0.02, True), (2e4, True), (2e7, True), (0, True), (10, False), (1, False)]
)
def test_sampling_rate(step, fits, rows, tmp_path):
    for index, row in enumerate(rows):
        row[0] = float(step * index)
    folder = _written(tmp_path / "raw", rows)
    if fits:
        datasets.prepare("utwente", folder, tmp_path / "out")
    else:
        _refused(f"time stamps step by {step:g}, which is not 50 Hz", folder, tmp_path / "out")


def test_folders(folder, tmp_path):
    _refused("it is in .*raw: pass that folder", tmp_path, tmp_path / "out")
    (folder / "smartphoneatwrist.csv").unlink()
    _refused("has no smartphoneatwrist.csv; unpack", folder, tmp_path / "out")
    (folder / "smartphoneatwrist.csv").write_text("")
    _refused("none of its 0 lines", folder, tmp_path / "out")
