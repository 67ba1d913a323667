"""Recognition in report.json, on the page, in Markdown and in the terminal: rows agree with what was measured."""

from __future__ import annotations

import dataclasses
import json
import re
from statistics import mean, stdev
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.errors import BadInput
from jax_prune.report import Report, compare, drawing, page, show, style, text, wording
from jax_prune.report import recognition_figures as figures
from jax_prune.report import recognition_rows as rows
from jax_prune.report import recognition_wording as words
from jax_prune.report.recognition import ClassScores, Scored

EVIL = "<script>alert(1)</script>\"'&$x$|*"
BOXES = ("Networks", "Networks over seeds", "Accuracy against time", "Confusion", "Classes", "Ladders of cnn_bigru",
         "Ladders of cnn_gru", "Weights removed", "Hidden units and filters removed", "The same by parameters",
         "Other protocols")  # fmt: skip


@pytest.fixture
def found(recognizing):
    return recognizing.recognition


def cells(table, name):
    row = next(row for row in table.rows if row[0] == name)
    return dict(zip(table.head, row, strict=True))


def untested(found):
    """The same run where the test subjects were not read, of one seed, and without times."""

    def of(own):
        scored = Scored(validation=own.scored.validation[:1])
        return dataclasses.replace(own, scored=scored, seconds={})

    return dataclasses.replace(
        found, networks=tuple(map(of, found.networks)), reference=tuple(map(of, found.reference)),
        ladders=tuple(map(of, found.ladders)), measured_on="validation subjects 19, 20, 21",
    )  # fmt: skip


def titles(source):
    return re.findall(r"<h2>(.*?)</h2>", source)


def test_a_network_s_row_is_its_numbers(found):
    own = found.networks[1]
    shown = cells(rows.networks(found), own.name)
    points = 100 * np.array(own.scored.accuracy)
    assert shown == {
        "network": "cnn_gru", "accuracy": f"{points.mean():.2f} % ± {points.std(ddof=1):.2f}",
        "validation accuracy": f"{100 * mean(own.scored.validation):.2f} % ± {100 * stdev(own.scored.validation):.2f}",
        "macro-F1": f"{100 * np.mean(own.scored.macro_f1):.2f} %", "parameters": "119,000", "MACs": "15,232,000",
        "call of 1": "0.6 ms", "call of 256": "24 ms", "sample of a stream": "0.042 ms",
    }  # fmt: skip
    assert cells(rows.networks(found), "cnn_bigru")["sample of a stream"] == wording.DASH


def test_a_rung_stands_beside_both_dense_networks(found):
    table = rows.ladders(found)[0]
    rung = next(rung for rung in found.ladders if (rung.way, rung.removed) == ("hidden", 0.5))
    accuracy, dense, longer = (100 * mean(own.scored.accuracy) for own in (rung, found.networks[0], found.reference[0]))
    shown = cells(table, "50 % of hidden units and filters")
    assert shown["accuracy"].startswith(f"{accuracy:.2f} % ± ")
    for head, other in (("change", dense), ("against longer", longer)):
        assert float(shown[head].replace("−", "-")) == pytest.approx(accuracy - other, abs=0.006)
    assert shown["parameters"] == f"{rung.params:,} (33.0 %)" and shown["MACs"].endswith("M (33.0 %)")
    assert shown["call of 1"] == f"{1e3 * rung.seconds['1']:.3g} ms (65.0 %)"
    assert shown["size"] == wording.size(rung.bytes)


def test_dense_networks_head_their_ladders_and_the_first_rungs_are_marked(found):
    tables = rows.ladders(found)
    assert [table.title for table in tables] == ["Ladders of cnn_bigru", "Ladders of cnn_gru"]
    for table in tables:
        assert [row[0] for row in table.rows[:3]] == [words.DENSE, words.LONGER, "50 % of weights"]
        assert len(table.rows) == 2 + 4 + 3
        assert cells(table, words.DENSE)["change"] == wording.DASH != cells(table, words.LONGER)["change"]
    marked = [tables[0].rows[number][0] for number in tables[0].marked]
    assert marked == ["90 % of weights", "50 % of hidden units and filters"]
    assert not tables[1].marked and not tables[1].remarks
    lost = 100 * (mean(found.ladders[2].scored.validation) - mean(found.networks[0].scored.validation))
    said = f"90 % of weights removed: {lost:+.2f} points on the validation subjects; up to 0.50 may be lost."
    assert said.replace("-", "−") in tables[0].remarks[0]


def test_masked_networks_have_no_time_of_their_own(found):
    assert {cells(table, "90 % of weights")["call of 1"] for table in rows.ladders(found)} == {wording.DASH}


def test_protocols_stand_beside_published_accuracies_and_carry_their_warning(found):
    table = rows.protocols(found)
    assert [row[0] for row in table.rows] == [rows.HELD_OUT, "random windows", "leave one subject out"]
    shown = cells(table, "random windows")
    assert shown["trainings"] == "3" and cells(table, "leave one subject out")["trainings"] == "30"
    assert [shown[f"published, {name}"] for name in ("complex", "simple", "simple and complex")] == [
        "98.89 %", "99.44 %", "98.78 %",
    ]  # fmt: skip
    assert cells(table, rows.HELD_OUT)["accuracy"] == cells(rows.networks(found), "cnn_bigru")["accuracy"]
    assert table.warnings == (f"R{found.protocols[0].warning[1:]}.",)
    assert table.remarks == ("Random windows, published: a paper of 2021, on other data.",)


def test_where_the_test_subjects_were_not_read_validation_takes_their_place(found):
    odd = untested(found)
    assert rows.measured(odd).startswith("Accuracy on validation subjects 19, 20, 21. Windows: train 7,412")
    assert rows.networks(odd).head == ("network", "validation accuracy", "parameters", "MACs")
    shown = cells(rows.ladders(odd)[0], "95 % of weights")
    assert set(shown) == {"removed", "validation accuracy", "change", "against longer", "parameters", "MACs", "size"}
    assert shown["validation accuracy"] == f"{100 * odd.ladders[3].scored.validation[0]:.2f} %"
    assert "accuracy" not in rows.brief(odd)[0].head


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 10_000), min_size=4, max_size=4), min_size=4, max_size=4))
def test_shares_of_a_true_class_sum_to_a_hundred(counts):
    empty = rows.Recognition((), (), tuple(map(tuple, counts)), "gru", {}, "test subjects 1")
    for row, share in zip(counts, words.shares(empty), strict=True):
        assert sum(share) == pytest.approx(100 if sum(row) else 0)
        assert all(part == 0 for part, count in zip(share, row, strict=True) if not count)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=6), st.lists(st.floats(0, 1), max_size=6))
def test_changes_are_differences_of_means(after, before):
    said = words.points(after, before)
    if not after or not before:
        assert said == wording.DASH
    else:
        assert float(said.replace("−", "-")) == pytest.approx(100 * (np.mean(after) - np.mean(before)), abs=0.0051)
        assert said != "−0.00"


def test_the_page_has_every_box_and_the_numbers(recognizing):
    pytest.importorskip("matplotlib")
    source = page.html(recognizing)
    assert set(BOXES) <= set(titles(source))
    for table in rows.tables(recognizing.recognition):
        if table.title != "Confusion":  # there as a picture
            for cell in (cell for row in table.rows for cell in row):
                assert f">{cell}</td>" in source
    assert source.count('<tr class="first">') == 2
    assert "#fe00" not in source
    for picture in re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL):
        ElementTree.fromstring(picture)


def test_markdown_and_the_terminal_have_their_tables(recognizing, capsys, monkeypatch):
    source = text.markdown(recognizing)
    for table in rows.tables(recognizing.recognition):
        assert f"## {table.title}\n" in source
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in source
    monkeypatch.setenv("COLUMNS", "80")
    show(recognizing)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for table in rows.brief(recognizing.recognition):
        for row in table.rows:
            assert any(all(cell.split(" and")[0] in line for cell in row) for line in lines), row


@pytest.mark.parametrize("of", [page.html, text.markdown])
def test_without_recognition_nothing_is_said_of_it(example, of):
    assert not {"Confusion", "macro-F1", "Ladders"} & set(re.findall(r"[\w-]+", of(example)))


@pytest.mark.parametrize("of", [page.html, text.markdown])
def test_what_was_not_measured_is_left_out(recognizing, of):
    odd = dataclasses.replace(
        untested(recognizing.recognition), ladders=(), reference=(), protocols=(), confusion=(), classes=(),
        windows={}, shown={},
    )  # fmt: skip
    source = of(dataclasses.replace(recognizing, recognition=odd))
    for absent in (
        "Confusion",
        "Classes",
        "Ladders",
        "Weights removed",
        "Other protocols",
        "Accuracy against time",
        "macro-F1",
    ):
        assert absent not in source
    assert "Networks" in source and "None" not in source and "nan" not in source


def test_without_matplotlib_counts_take_the_matrix_s_place(recognizing, monkeypatch):
    monkeypatch.setattr(drawing, "available", lambda: False)
    source = page.html(recognizing)
    assert "<svg" not in source and f">{recognizing.recognition.confusion[0][0]}</td>" in source
    assert {"Confusion", "Classes", "Ladders of cnn_gru"} <= set(titles(source))
    assert not {"Networks over seeds", "Weights removed"} & set(titles(source))


def evil(found):
    """The same run with a name in every place that markup could break out of."""

    def named(own):
        return dataclasses.replace(own, name=EVIL)

    return dataclasses.replace(
        found, networks=(named(found.networks[0]),), reference=(named(found.reference[0]),), confused=EVIL,
        ladders=tuple(dataclasses.replace(rung, net=EVIL, way=EVIL) for rung in found.ladders[:2]), measured_on=EVIL,
        classes=tuple(map(named, found.classes)), windows={EVIL: 3},
        protocols=(dataclasses.replace(found.protocols[0], name=EVIL, net=EVIL, warning=EVIL, source=EVIL),),
    )  # fmt: skip


def test_names_are_shown_and_never_run(recognizing):
    odd = dataclasses.replace(recognizing, recognition=evil(recognizing.recognition))
    source = page.html(odd)
    assert "<script" not in source and "&lt;script&gt;" in source
    for picture in re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL):
        ElementTree.fromstring(picture)
    lines = [line for line in text.markdown(odd).splitlines() if line.startswith("|")]
    assert "<script" not in text.markdown(odd)
    for head, rule in zip(lines, lines[1:], strict=False):
        if set(rule) <= set("|-: "):
            assert len(re.findall(r"(?<!\\)\|", head)) == rule.count("|")


def test_the_matrix_says_shares_and_counts(found):
    pytest.importorskip("matplotlib")
    shown = re.sub(r"<title>.*?</title>", "", figures.confusion(found), flags=re.DOTALL)
    labels = re.findall(r">([\d.<&;lt]+)</text>", shown)
    counts = np.array(found.confusion)
    shares = 100 * counts / counts.sum(1, keepdims=True)
    assert labels == [f"{share:.1f}" for share in shares[counts > 0]]
    first = counts[0]
    said = f"{found.classes[0].name}, answered {found.classes[1].name}: {first[1]} of {first.sum()} windows"
    assert said in figures.confusion(found)


@pytest.mark.parametrize("classes", [2, 13])
def test_the_matrix_has_any_number_of_classes_and_rows_without_windows(found, classes):
    pytest.importorskip("matplotlib")
    named = tuple(ClassScores("class_" * 9 + str(k), 0.0, 0.0, 0.0, 0) for k in range(classes))
    counts = ((0,) * classes, *(tuple(int(k == row) for k in range(classes)) for row in range(1, classes)))
    picture = figures.confusion(dataclasses.replace(found, classes=named, confusion=counts))
    assert picture.count(">100</text>") == classes - 1
    assert "nan" not in picture and f"…{named[0].name[-12:]}" in picture


def luminance(colour):
    """Relative luminance of sRGB in [0, 1] [3] (WCAG 2.2)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


CARDS = re.findall(r"--card: (#\w{6})", style.sheet())  # light, dark


@pytest.mark.parametrize(("palette", "card"), zip((drawing.LIGHT, style.DARK), CARDS, strict=True))
def test_labels_are_readable_on_any_shade_in_both_themes(palette, card):
    ink, shade, ground = (
        np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        for colour in (palette["ink"], palette["series-0"], card)
    )
    for opacity in np.linspace(0, figures.DARKEST, 20):
        darker, lighter = sorted((luminance(ink), luminance(ground + opacity * (shade - ground))))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def test_ladders_are_drawn_a_way_a_picture(found):
    pytest.importorskip("matplotlib")
    for way, label in (("weights", "weights removed, %"), ("hidden", "hidden units and filters removed, %")):
        for picture in (figures.by_share(found, way), figures.by_parameters(found, way)):
            assert all(f"\u200b{name}<" in picture for name in ("cnn_bigru", "cnn_gru", words.LONGER))
            assert picture.count("<title>") == 2 * (1 + sum(rung.net == "cnn_gru" for rung in found.ladders
                                                            if rung.way == way) + 1)  # fmt: skip
        assert f">{label}<" in figures.by_share(found, way)
    assert figures.by_share(found, "filters") == ""
    assert figures.by_latency(untested(found)) == ""
    assert words.LONGER not in figures.by_share(dataclasses.replace(found, reference=()), "weights")


def test_it_reads_back_what_was_written(recognizing, tmp_path):
    recognizing.to_json(tmp_path / "report.json")
    assert Report.from_json(tmp_path / "report.json") == recognizing


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r["networks"][1].pop("params"), r"recognition\.networks\[1\] lacks the field 'params'"),
        (lambda r: r["networks"][0]["scored"].update(accuracy=["x"]), r"networks\[0\]\.scored\.accuracy\[0\]"),
        (lambda r: r["confusion"][2].__setitem__(1, 0.5), r"confusion\[2\]\[1\] is 0\.5"),
        (lambda r: r["shown"].update(hidden="half"), r"recognition\.shown\.hidden is 'half'"),
        (lambda r: r["ladders"][3].update(rate=1), r"ladders\[3\] has an unknown field 'rate'"),
        (lambda r: r["protocols"][0]["published"].update(simple=None), r"protocols\[0\]\.published\.simple"),
    ],
)
def test_a_wrong_field_is_named(recognizing, tmp_path, change, named):
    path = tmp_path / "report.json"
    recognizing.to_json(path)
    whole = json.loads(path.read_text())
    change(whole["recognition"])
    path.write_text(json.dumps(whole))
    with pytest.raises(BadInput, match=named):
        Report.from_json(path)


def test_runs_are_compared_by_their_best_network(recognizing, example):
    source = compare.markdown({"har": recognizing, "weights": example})
    assert "| har | cnn_bigru (har) | hapt |" in source and "| weights | lenet300 (layerwise) |" in source
    assert "cnn_bigru (har)" in compare.html({"har": recognizing})


def test_a_sample_of_a_stream_is_no_batch(recognizing):
    timed = dataclasses.replace(recognizing.dense, seconds={"1": 1e-3, "sample": 4e-5})
    labels = [line.label for line in wording.before_after(dataclasses.replace(recognizing, dense=timed))]
    assert labels[-2:] == ["latency, batch 1", "latency, sample of a stream"]
