"""Several runs on one table and one page."""

from __future__ import annotations

import dataclasses

import pytest

from jax_prune.errors import BadInput
from jax_prune.report import compare


@pytest.fixture
def folders(example, bare, tmp_path):
    reports = {
        "a/run": example,
        "b/run": dataclasses.replace(example, seed=7, stand_in="x"),
        "b/own": bare,
    }
    for name, report in reports.items():
        (tmp_path / name).mkdir(parents=True)
        report.to_json(tmp_path / name / "report.json")
    return [tmp_path / name for name in reports]


def test_runs_are_named_by_what_tells_them_apart(folders, example):
    reports = compare.load(folders)
    assert list(reports) == ["a/run", "b/run", "b/own"]
    assert reports["a/run"] == example
    assert list(compare.load([folders[0], folders[2]])) == ["run", "own"]
    assert list(compare.load([folders[0] / "report.json"])) == ["report.json"]


def test_one_row_a_run(folders):
    rows = compare.markdown(compare.load(folders)).splitlines()
    shown = "a/run", "lenet300 (layerwise)", "mnist", "0", "1.71 %", "1.73 %", "267k => 6.35k", "266k => 6.2k"
    assert rows[2] == f"| {' | '.join(shown)} | 43.0× | 42.0× | 31.9 kB | 4 min 6 s |"
    assert "mnist (stand-in for x) | 7" in rows[3]
    assert rows.index("") == 5  # then the fronts


def test_studies_stand_side_by_side(example, narrowed):
    narrow = dataclasses.replace(narrowed, config={"net": "vgg16_cifar", "width": 0.125})
    source = compare.markdown({"weights": example, "channels": narrow})
    assert "| weights | lenet300 (layerwise) | mnist |" in source
    assert "| channels | vgg16_cifar × 0.125 (channels) | mnist |" in source and "266k => 66.5k" in source
    pytest.importorskip("matplotlib")
    assert "channels" in compare.overlay({"channels": narrow})


def test_files_are_written_with_the_overlay(folders, tmp_path):
    pytest.importorskip("matplotlib")
    table, page = compare.write(folders, tmp_path)
    assert table.read_text() == compare.markdown(compare.load(folders))
    source = page.read_text()
    assert source.count("<svg") == 2 and "a/run" in source and "http-equiv" in source


def test_runs_without_rounds_have_a_table_alone(bare):
    source = compare.html({"<b>own</b>": bare})
    assert "<svg" not in source and "&lt;b&gt;own" in source and "Error over compression" not in source


def test_a_folder_without_report_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="does not exist") as failure:
        compare.load([tmp_path])
    assert str(tmp_path) in str(failure.value)
