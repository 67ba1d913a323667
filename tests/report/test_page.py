"""report.html: whole, self-contained, safe for any name, and quiet about what a run has not measured."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from jax_prune.report import (
    Audit,
    Baselines,
    Layer,
    Outcome,
    Point,
    drawing,
    figures,
    page,
    search_figures,
    text,
    write,
)

EVIL = "<script>alert(1)</script>\"'&$x$"
VOID = {"meta", "br", "img", "link", "input", "hr"}
BOXES = ("Error by round", "Validation over training", "Search", "Sensitivity", "Allocations at equal budget",
         "Returned connections", "Loss by allocation", "Whole pipeline by allocator", "Trade-off",
         "Loss before tuning, error after",
         "Along the line")  # fmt: skip


class Tags(HTMLParser):
    """Collects tags, attributes and text; notes a tag that closes another than the last opened one."""

    def __init__(self, source: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.wrong = [], [], [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def titles(source):
    return re.findall(r"<h2>(.*?)</h2>", source)


@pytest.fixture(scope="module")
def source(example):
    pytest.importorskip("matplotlib")
    return page.html(example)


def test_every_box_is_there_and_every_tag_is_closed(source):
    parsed = Tags(source)
    assert set(BOXES) <= set(titles(source))
    assert not parsed.open and not parsed.wrong
    assert parsed.tags.count("svg") == 8 + 6  # eight single pictures and a convergence panel a round


def test_headline_shows_the_run(source):
    text = " ".join(Tags(source).text)
    for shown in (
        "43.0×",
        "42.0×",
        "1.73 %",
        "1.71 %",
        "31.9 kB",
        "6,347",
        "--config.net=lenet300",
        "0.12.8",
    ):
        assert shown in text


def test_nothing_is_loaded_from_outside(source):
    parsed = Tags(source)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(parsed.tags)
    for name, value in parsed.attributes:
        assert name not in ("src", "onload", "onclick")
        assert name not in ("href", "xlink:href") or value.startswith("#")
    assert "@import" not in source and not re.search(r"url\((?!#)", source)


def test_pictures_are_xml_with_ids_of_their_own(source):
    pictures = re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL)
    for picture in pictures:
        ElementTree.fromstring(picture)
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r'href="#([^"]+)"', source), *re.findall(r"url\(#([^)]+)\)", source)} <= set(ids)


def test_colours_follow_the_theme(source):
    assert "prefers-color-scheme: dark" in source
    assert "#fe00" not in source  # no stand-in colour is left
    assert "var(--ink, " in source and "var(--series-1, " in source


def test_names_are_shown_and_never_run(example):
    layers = tuple(dataclasses.replace(layer, name=EVIL) for layer in example.layers)
    odd = dataclasses.replace(
        example, study=EVIL, title=EVIL, dataset=EVIL, stand_in=EVIL, command=EVIL, measure=EVIL,
        layers=layers, notes=(EVIL,), config={EVIL: EVIL}, seconds={EVIL: 1.0},
        versions={EVIL: EVIL}, files={EVIL: EVIL},
        history=(Point(EVIL, 1, 0.1), Point(EVIL, 2, 0.1)),
        search=dataclasses.replace(example.search, algorithm=EVIL),
        dense=dataclasses.replace(example.dense, macs_note=EVIL, bytes_note=EVIL),
        baselines=Baselines({EVIL: (0.1,) * 6}, (Outcome(EVIL, 0, 0.1),)),
    )  # fmt: skip
    parsed = Tags(page.html(odd))
    assert "script" not in parsed.tags and not parsed.wrong and not parsed.open
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert EVIL in parsed.text


def test_layers_may_have_any_name(example):
    pytest.importorskip("matplotlib")
    names = ("_hidden", "$\\alpha$", "encoder/" + "block/" * 30 + "kernel")
    layers = tuple(Layer(name, 10, 5, 0.5) for name in names)
    picture = search_figures.sensitivity(dataclasses.replace(example, layers=layers))
    assert "_hidden" in picture and "$\\alpha$" in picture and "block/kernel" in picture


def test_a_bare_report_leaves_the_rest_out(bare):
    source = page.html(bare)
    assert titles(source) == ["Before and after", "Layers"]
    text = " ".join(Tags(source).text)
    assert "validation mean absolute error" in text and "0.392" in text
    assert "38.1" not in text  # the user's own measure is no percentage
    assert "nan" not in text.lower() and "None" not in text


def test_the_tolerance_question_shows_kept_fractions(tolerant):
    shown = titles(page.html(tolerant))
    assert "Search" in shown and "Sensitivity" in shown
    assert "Allocations at equal budget" not in shown and "Loss by allocation" not in shown
    assert "Best kept fraction so far" in page.html(tolerant)


def test_a_stand_in_is_named_with_the_results(example):
    odd = dataclasses.replace(example, dataset="watch", stand_in="UTwente's set")
    assert "watch is a stand-in for UTwente&#x27;s set" in page.html(odd)


def test_values_that_are_missing_or_not_positive_still_draw(example):
    pytest.importorskip("matplotlib")
    missing = {"search_loss": -0.5, "validation_error_before_tuning": None}
    rounds = tuple(dataclasses.replace(entry, **missing) for entry in example.rounds)
    losses = {"search": (-1.0, None, -2.0, 0.0, 1.0, None), "lamp": (None,) * 6, "erk": (1.0, 2.0)}
    odd = dataclasses.replace(example, rounds=rounds, baselines=Baselines(losses))
    picture = figures.baselines(odd)
    assert "ERK" in picture and "LAMP" not in picture
    assert "before tuning" not in figures.error_by_round(odd)
    assert not Tags(page.html(odd)).wrong


def test_fifty_layers_draw_without_a_legend_of_fifty(example):
    pytest.importorskip("matplotlib")
    layers = tuple(Layer(f"layer{g}", 100, 10, 0.9) for g in range(50))
    curves = dataclasses.replace(example.search.sensitivity, loss=example.search.sensitivity.loss[:1] * 50, bounds=None)
    odd = dataclasses.replace(example, layers=layers, search=dataclasses.replace(example.search, sensitivity=curves))
    picture = search_figures.sensitivity(odd)
    assert "layer0" in picture and "layer49" in picture and "layer7" not in picture


def test_same_report_gives_the_same_page(example, source):
    assert page.html(example) == source


def test_without_matplotlib_the_page_says_so(example, monkeypatch):
    monkeypatch.setattr(drawing, "available", lambda: False)
    source = page.html(example)
    assert "<svg" not in source and "jax_prune[report]" in source and "Loss by allocation" in source


def test_write_leaves_three_files_and_gives_the_page(bare, tmp_path):
    path = write(bare, tmp_path)
    assert path == tmp_path / "report.html" and path.read_text().startswith("<!doctype html>")
    assert {entry.name for entry in tmp_path.iterdir()} == {"report.json", "report.md", "report.html"}


def test_no_axis_is_without_a_name_where_it_has_numbers(example):
    pytest.importorskip("matplotlib")
    panels = search_figures.convergence(example)
    assert panels.count("<svg ") == panels.count(">evaluations<") == panels.count(f">best {example.search.objective}<")


@pytest.mark.parametrize("count", range(1, 9))
def test_legends_read_line_by_line_in_the_order_given(count):
    pytest.importorskip("matplotlib")
    names = [f"run {number}" for number in range(count)]
    with drawing.canvas("legend", "legend") as (axes, render):
        drawing.legend(axes, [axes.plot([0, number])[0] for number in range(count)], names)
        render()
        places = {text.get_text().lstrip("\u200b"): text.get_window_extent() for text in axes.get_legend().texts}
    assert sorted(names, key=lambda name: (-round(places[name].y0), places[name].x0)) == names


def test_a_tolerance_that_nothing_met_is_said_everywhere(example):
    rounds = (dataclasses.replace(example.rounds[0], missed=0.0125), *example.rounds[1:])
    report, line = dataclasses.replace(example, rounds=rounds), "No candidate met the tolerance in round"
    number = rounds[0].round
    for shown in (page.html(report), text.markdown(report), terminal(report)):
        assert f"{line} {number} (by 0.0125): the one that came closest was kept." in " ".join(shown.split())
    for shown in (page.html(example), text.markdown(example), terminal(example)):
        assert "met the tolerance" not in shown


def terminal(report):
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as caught:
        console.print(text.summary(report))
    return caught.get()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"work": (0.5, 0.7)}, "Early decisions saved 40.0 % of the work."),
        (
            {"work": (1.2,), "fidelity": (0.5, 1.0)},
            "Early decisions and scores on part of the data added 20.0 % of the work.",
        ),
        (
            {"race": "paired", "audit": Audit(100, 48, 2, 0.99)},
            "Of 100 trials dropped early 2 would have won: 4.0 % of all that would, where confidence 0.99 allows 1 %.",
        ),
        ({"audit": Audit(9, 0, 0, 1.0)}, "Of 9 trials dropped early 0 would have won: 0.0 % of all that would."),
    ],
)
def test_what_a_search_saved_and_what_it_cost_is_said(example, change, says):
    assert says in page.html(dataclasses.replace(example, search=dataclasses.replace(example.search, **change)))
