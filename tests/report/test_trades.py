"""The trade-off in pictures, tables and tooltips; runs side by side."""

from __future__ import annotations

import dataclasses
import html
import re

import pytest

from jax_prune.report import TradeOff, TradePoint, compare, drawing, page, text, trade_figures, trades

EVIL = "<script>alert(1)</script>\"'&$x$"


def titles(picture):
    return [html.unescape(title) for title in re.findall(r"<title>(.*?)</title>", picture, flags=re.DOTALL)]


def words(title):
    return " ".join(title.split())


def test_the_staircase_is_the_least_error_at_every_size(example):
    points = example.trade_off.points
    steps = trades.staircase(example.trade_off)
    for point in points:
        least = min(other.error for other in points if other.params <= point.params)
        below = [step for step in steps if step.params <= point.params]
        assert below[-1].error == least
    assert [step.params for step in steps] == sorted({step.params for step in steps})
    assert set(steps) < set(points)


def test_rows_span_the_staircase(example):
    steps, rows = trades.staircase(example.trade_off), trades.rows(example)
    assert len(rows) == 8 and len(set(rows)) == 8 and len(rows[0]) == len(trades.HEAD)
    assert rows[0][0] == f"{steps[0].params:,}" and rows[-1][4] == f"{100 * steps[-1].error:.2f} %"
    few = dataclasses.replace(example.trade_off, points=example.trade_off.points[:2])
    assert len(trades.rows(dataclasses.replace(example, trade_off=few))) == 2
    nothing = dataclasses.replace(example.trade_off, points=())
    assert trades.rows(dataclasses.replace(example, trade_off=nothing)) == []
    assert "Trade-off of the dense net" in text.markdown(example)


def test_every_dot_says_what_it_is(example):
    pytest.importorskip("matplotlib")
    shown = list(map(words, titles(trade_figures.trade_off(example))))
    assert len(shown) == len(example.trade_off.points)
    point = example.trade_off.points[0]
    expected = f"{100 * point.error:.2f} %: {point.params:,} parameters, {point.macs:,} MACs"
    assert sum(title.startswith(expected) for title in shown) == 1
    assert all("ip1" in title and "ip3" in title for title in shown)


def test_names_in_tooltips_are_text(example):
    pytest.importorskip("matplotlib")
    layers = tuple(dataclasses.replace(layer, name=EVIL) for layer in example.layers)
    odd = dataclasses.replace(example, layers=layers)
    picture = trade_figures.trade_off(odd)
    assert "<script" not in picture and all(EVIL in title for title in titles(picture))
    assert "<script" not in page.html(odd) and "<script" not in compare.html({EVIL: odd})


def test_runs_without_a_front_leave_the_boxes_out(example, bare, monkeypatch):
    without = dataclasses.replace(example, trade_off=None)
    assert "Trade-off" not in page.html(without) and "Trade-off" not in text.markdown(without)
    assert "Trade-offs" not in compare.html({"a": without, "b": bare})
    monkeypatch.setattr(drawing, "available", lambda: False)
    assert "Along the line" in page.html(example)


def test_the_overlay_has_the_runs_that_have_a_front(example, bare):
    pytest.importorskip("matplotlib")
    reports = {"one": example, "two": example, "none": bare}
    picture = trade_figures.fronts(reports)
    steps = len(trades.staircase(example.trade_off))
    assert sum(title.startswith("one: ") for title in titles(picture)) == steps
    assert sum(title.startswith("two: ") for title in titles(picture)) == steps
    assert "none" not in re.sub(r"[a-z-]+:\s*none", "", picture) and "Trade-offs" in compare.html(reports)


@pytest.mark.parametrize("measure", ["error", "mean absolute error"])
def test_a_single_point_and_an_error_of_nothing_still_draw(example, measure):
    pytest.importorskip("matplotlib")
    point = TradePoint(0.0, 10, 0, 40, (5, 4, 1))
    odd = dataclasses.replace(example, measure=measure, trade_off=TradeOff((point,), point, 200, 8, 4, 1))
    assert len(titles(trade_figures.trade_off(odd))) == 1
    assert measure in trade_figures.trade_off(odd)


def test_runs_side_by_side_list_their_fronts_in_the_terminal_too(example, bare):
    shown = compare.markdown({"one": example, "none": bare})
    rows = [line.split(" | ") for line in shown.partition("## ")[2].splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == ["| one"] * len(trades.rows(example))
    for row, expected in zip(rows[2:], trades.rows(example), strict=True):
        assert row[1:] == [*expected[:-1], f"{expected[-1]} |"]
    assert "##" not in compare.markdown({"none": bare})
