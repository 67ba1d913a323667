"""report.md and the terminal table."""

from __future__ import annotations

import dataclasses

import pytest

from jax_prune.report import Layer, show, text, wording


@pytest.fixture
def printed(capsys, monkeypatch):
    def of(report, width=80, page=None):
        monkeypatch.setenv("COLUMNS", str(width))
        show(report, page)
        captured = capsys.readouterr()
        assert not captured.err
        return captured.out

    return of


def test_markdown_has_every_table(example):
    source = text.markdown(example)
    rows = (
        "| ip1 | 235,500 | 4,012 | 0.9830 |",
        "| test error | 1.71 % | 1.73 % |",
        "| 6 | 6,347 | 7.56 % | 1.78 % |",
    )
    for shown in (*rows, "Compression 43.0×", "global magnitude", "## Whole pipeline by allocator"):
        assert shown in source
    rows = [line for line in source.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_markdown_of_odd_names_keeps_its_columns(bare):
    odd = dataclasses.replace(bare, layers=(Layer("a|b<script>\n*c*", 10, 5, 0.5),))
    row = next(line for line in text.markdown(odd).splitlines() if line.startswith("| a"))
    assert row == "| a\\|b&lt;script> \\*c\\* | 10 | 5 | 0.5000 |"


def test_markdown_leaves_out_what_is_not_there(bare):
    source = text.markdown(bare)
    assert "## Layers" in source
    for absent in ("## Rounds", "whole pipeline", "None", "nan", "Time:"):
        assert absent not in source


def test_summary_shows_before_and_after_and_the_path(example, printed):
    shown = printed(example, page="/some/where/report.html")
    for line in (("test error", "1.71 %", "=>", "1.73 %"), ("parameters", "266,610", "=>", "6,347"),
                 ("ip3", "1,010", "=>", "358", "35.4 %")):  # fmt: skip
        assert any(all(part in row for part in line) for row in shown.splitlines())
    assert "42.0×" in shown and "/some/where/report.html" in shown


def test_summary_does_not_break_the_path_and_takes_names_literally(example, printed):
    path = "/a/rather/long/" + "folder/" * 20 + "report.html"
    odd = dataclasses.replace(example, title="[bold]x[/]", stand_in="y")
    shown = printed(odd, width=50, page=path)
    assert path in shown and "[bold]x[/]" in shown and "stand-in for y" in shown


@pytest.mark.parametrize(
    ("function", "value", "worded"),
    [
        (wording.times, 42.96, "43.0×"),
        (wording.times, 12345.0, "12,345×"),
        (wording.times, None, "–"),
        (wording.size, 999, "999 B"),
        (wording.size, 31_870, "31.9 kB"),
        (wording.size, 1_066_440, "1.1 MB"),
        (wording.duration, 59.96, "60.0 s"),
        (wording.duration, 125.0, "2 min 5 s"),
        (wording.duration, 7_260.0, "2 h 1 min"),
        (wording.loss, 0.004, "0.004000"),
        (wording.count, 1_234_567, "1,234,567"),
    ],
)
def test_numbers_read_well(function, value, worded):
    assert function(value) == worded


def test_a_measure_of_the_user_is_no_percentage(example, bare):
    assert wording.measured(example, 0.01736) == "1.74 %"
    assert wording.measured(bare, 0.01736) == "0.01736"
