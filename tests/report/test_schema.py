"""report.json: the fixed fields, read back as written, and refused in one line where it is not whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.errors import BadInput
from jax_prune.report import Compression, Layer, Report, Round, Side, versions

# docs and other tools read these names; they may gain neighbours but must not go
FIXED = "study dataset seed versions seconds dense pruned compression rounds history layers search baselines"


def written(report, folder):
    report.to_json(folder / "report.json")
    return json.loads((folder / "report.json").read_text())


def test_fixed_names_are_in_the_file(example, tmp_path):
    found = written(example, tmp_path)
    assert set(FIXED.split()) <= set(found)
    assert {"error", "params", "macs", "bytes"} <= set(found["dense"]) & set(found["pruned"])
    assert set(found["compression"]) == {"weights", "all"}
    assert set(found["layers"][0]) == {"name", "size", "kept", "ratio"}
    assert {"algorithm", "evaluations", "population", "history", "sensitivity"} <= set(found["search"])
    assert found["baselines"]["losses"]["lamp"] == [entry["baselines"]["lamp"] for entry in found["rounds"]]


@pytest.mark.parametrize("name", ["example", "bare", "tolerant", "narrowed"])
def test_reads_back_what_was_written(name, request, tmp_path):
    report = request.getfixturevalue(name)
    report.to_json(tmp_path / "report.json")
    assert Report.from_json(tmp_path / "report.json") == report


COMMITTED = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*/seed_*.json"))


@pytest.mark.skipif(not COMMITTED, reason="a tree without docs/results")
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "/".join(path.parts[-2:]))
def test_committed_reports_are_read(path):
    report = Report.from_json(path)
    assert report.pruned.error is not None and len(report.layers) == len(report.rounds[-1].layers_kept)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1)),
        max_size=4,
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_layers_and_floats_survive(tmp_path_factory, rows, value):
    layers = tuple(Layer(*row) for row in rows)
    report = Report("s", "t", "d", 0, Side(value), Side(), Compression(value, None), layers, rounds=(Round(1, kept=3),))
    path = tmp_path_factory.mktemp("report") / "report.json"
    report.to_json(path)
    assert Report.from_json(path) == report


def test_numpy_values_and_what_is_not_finite(bare, tmp_path):
    odd = dataclasses.replace(
        bare,
        dense=Side(error=np.float32(0.25), params=np.int64(2**40), validation_error=float("nan")),
        config={"target": np.array([1.0, np.inf]), "path": tmp_path},
    )
    found = written(odd, tmp_path)
    assert found["dense"] == {**found["dense"], "error": 0.25, "params": 2**40, "validation_error": None}
    assert found["config"] == {"target": [1.0, None], "path": str(tmp_path)}
    assert Report.from_json(tmp_path / "report.json").dense.params == 2**40


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r.pop("layers"), "layers"),
        (lambda r: r["layers"][1].pop("kept"), r"layers\[1\].*kept"),
        (lambda r: r["layers"][0].update(size="many"), r"layers\[0\]\.size.*'many'.*int"),
        (lambda r: r["layers"][0].update(kept=1.5), r"layers\[0\]\.kept.*1\.5"),
        (lambda r: r.update(seed=True), "seed"),
        (lambda r: r.update(rounds={"0": {}}), "rounds"),
        (lambda r: r["search"]["history"].append([1, "x"]), r"search\.history\[6\]\[1\]"),
        (lambda r: r["dense"].update(eror=0.1), "eror"),
        (lambda r: r.update(format=99), "format 99"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(example, tmp_path, change, named):
    found = written(example, tmp_path)
    change(found)
    (tmp_path / "report.json").write_text(json.dumps(found))
    with pytest.raises(BadInput, match=named) as failure:
        Report.from_json(tmp_path / "report.json")
    assert "report.json" in str(failure.value) and "\n" not in str(failure.value)


def test_a_missing_torn_or_binary_file_is_refused(example, tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(BadInput, match="does not exist"):
        Report.from_json(path)
    example.to_json(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"\xff\xfe\x00", b"[]", b""):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="report.json"):
            Report.from_json(path)


def test_versions_name_software_and_machine():
    found = versions()
    names = "jax jaxlib flax optax numpy python jax_prune platform cpu_count machine"
    assert set(names.split()) <= set(found)
    assert found["numpy"] == np.__version__
