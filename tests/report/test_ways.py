"""The ways to a smaller network, in Markdown and on the page: each with its errors, sizes, limits and efforts."""

from __future__ import annotations

import dataclasses

import pytest

from jax_prune.report import Spending, page, text, ways


def cells(report, name):
    head, rows = ways.table(report)
    return dict(zip(head, next(row for row in rows if row[0] == name), strict=True))


def test_a_row_says_what_a_way_is(narrowed):
    found = cells(narrowed, "gates")
    assert found == {
        "way": "gates", "validation error": "2.02 %", "test error": "1.92 %", "MACs": "66,549 (25.0 %)",
        "parameters": "60,000 (22.5 %)", "target of MACs": "100.0 %", "bound of latency (predicted)": "95.0 %",
        "call of 1": "0.19 ms", "steps": "6,000", "time": "61.5 s",
    }  # fmt: skip


def test_what_no_way_measured_has_no_column(narrowed):
    untested = tuple(
        dataclasses.replace(way, network=dataclasses.replace(way.network, error=None)) for way in narrowed.ways
    )
    assert "test error" not in cells(dataclasses.replace(narrowed, ways=untested), "search")


def test_a_limit_that_one_way_lacks_is_a_dash(narrowed):
    first, second = narrowed.ways
    alone = dataclasses.replace(first, spending=(Spending("MACs", 66_550, 66_500, 266_200, target=True),))
    assert cells(dataclasses.replace(narrowed, ways=(alone, second)), "search")["bound of latency (predicted)"] == "–"


def test_limits_are_in_their_units(narrowed):
    said = ways.explanation(narrowed)
    assert "Target: 66,550 MACs, 25.0 % of the dense net's. Bound: 0.2 ms a call, 80.0 % of the dense net's." in said


def test_groups_that_had_no_gates_are_marked_and_told_why(narrowed):
    head, rows = ways.groups(narrowed)
    assert head == ("group", "before", "search", "gates")
    assert rows[1] == ("ip2", "100", "60", "40†") and rows[0] == ("ip1", "300", "70", "90")
    assert ways.ungated(narrowed) == [
        "ip2 had no gates for gates and stayed whole there: no place before a <sum> of it"
    ]


@pytest.mark.parametrize("of", [text.markdown, page.html])
def test_pages_have_both_tables_in_place_of_the_allocators(narrowed, of):
    source = of(narrowed)
    for shown in ("66,549 (25.0 %)", "Target: 66,550 MACs", "40†", "&lt;sum", "61.5 s"):
        assert shown in source
    assert "before a <sum> of" not in source
    assert "spread" not in source


def test_one_way_alone_has_no_table_of_groups(narrowed):
    alone = dataclasses.replace(narrowed, ways=narrowed.ways[1:])
    assert ways.groups(alone) == ((), [])
    assert "Kept by group" not in page.html(alone) and "no place before" in page.html(alone)
