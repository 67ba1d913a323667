"""HAPT's text files and its pickled copy become the same set, whole or not at all; only listed names are called."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from jax_prune import cli, datasets
from jax_prune.datasets import har
from jax_prune.errors import BadInput

pytest.importorskip("array_record")


def _refused(match, folder, out, **options):
    with pytest.raises(BadInput, match=match) as caught:
        datasets.prepare("hapt", folder, out, verify=False, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def _same(data, experiments, codes, users):
    assert [each.subject for each in data.recordings] == list(users.values())
    for recording, each in zip(data.recordings, experiments, strict=True):
        np.testing.assert_array_equal(recording.samples, experiments[each])
        expected = [-1] * len(recording.samples)
        for code, first, last in codes[each]:
            for sample in range(first, last + 1):
                expected[sample] = code - 1
        assert recording.activity.tolist() == expected


@pytest.mark.parametrize("form", ["uci_folder", "pickled_folder"])
def test_both_forms_give_the_recordings(form, request, experiments, labelled, tmp_path):
    out = tmp_path / "out"
    folder = datasets.prepare("hapt", request.getfixturevalue(form), out, verify=False)
    assert folder == out / "hapt" / "1.0.0" and [path.name for path in out.iterdir()] == ["hapt"]
    data = har.load("hapt", data_dir=out)
    _same(data, experiments, *labelled)
    assert data.rate == 50 and len(data.activities) == 12 and "CC BY 4.0" in (folder / "dataset_info.json").read_text()
    assert data.scenarios["basic"] == data.activities[:6] and data.scenarios["transitions"] == data.activities[6:]
    assert set(data.scenarios["static"]) == {"sitting", "standing", "laying"}


def test_again_leaves_the_set_and_needs_no_source(uci_folder, tmp_path):
    first = datasets.prepare("hapt", uci_folder, tmp_path / "out", verify=False)
    times = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert datasets.prepare("hapt", tmp_path / "nowhere", tmp_path / "out") == first
    assert times == {path: path.stat().st_mtime_ns for path in first.iterdir()}


def test_the_command_refuses_what_is_not_the_published_set(uci_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["data", "prepare", "hapt", "--from", str(uci_folder), "--data_dir", str(out)]) == 2
    assert "3 recordings of 61" in capsys.readouterr().err and not out.exists()


def test_absent_and_damaged_sets(uci_folder, tmp_path):
    with pytest.raises(BadInput, match=f"run: jax-prune data prepare hapt --from DIR --data_dir {tmp_path}"):
        har.load("hapt", data_dir=tmp_path)
    with pytest.raises(BadInput, match="choose watch"):
        har.load("wacht")
    with pytest.raises(BadInput, match="load it with datasets.har.load"):
        datasets.load("hapt", data_dir=tmp_path)
    folder = datasets.prepare("hapt", uci_folder, tmp_path, verify=False)
    for path in folder.glob("*array_record*"):
        path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(BadInput, match="delete it and prepare it again"):
        har.load("hapt", data_dir=tmp_path)


def _edit(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "line", "text", "match"),
    [
        ("acc_exp02_user01.txt", 70, "0.1 0.2", r"acc_exp02_user01.txt: line 70 has 2 columns where 3"),
        ("acc_exp02_user01.txt", 9, "0.1 NaN 2", r"line 9 has a missing sample \(NaN\) in column 2"),
        ("gyro_exp03_user02.txt", 1, "0.1 x 2", "gyro_exp03_user02.txt: line 1 has 'x' in column 2"),
        ("gyro_exp03_user02.txt", 70, "", "has 70 rows and gyro_exp03_user02.txt 69"),
        ("labels.txt", 2, "1 1 13 41 60", "labels.txt: row 2 has unknown activity code 13"),
        ("labels.txt", 2, "1 1 5 41 70", "row 2 labels samples 41 to 70 of acc_exp01_user01.txt, which has 70"),
        ("labels.txt", 2, "1 1 5 40 60", "row 2 labels samples 40 to 60 of .* a second time"),
        ("labels.txt", 3, "2 9 12 0 9", "row 3 labels experiment 2 of user 9, .* no acc_exp02_user09.txt"),
        ("labels.txt", 4, "2 1 6 2", "labels.txt: line 4 has 4 columns where 5"),
    ],
)
def test_torn_text(name, line, text, match, uci_folder, tmp_path):
    _edit(uci_folder / name, line, text)
    _refused(match, uci_folder, tmp_path / "out")


def test_missing_files(uci_folder, tmp_path):
    (uci_folder / "gyro_exp01_user01.txt").unlink()
    _refused("cannot read .*gyro_exp01_user01.txt", uci_folder, tmp_path / "out")
    (uci_folder / "acc_exp01_user01.txt").write_text("")
    _refused("acc_exp01_user01.txt: none of its 0 lines", uci_folder, tmp_path / "out")
    _refused("they are in .*RawData: pass that folder", uci_folder.parent, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    _refused("the folder must hold labels.txt", tmp_path / "empty", tmp_path / "out")


def test_a_pickle_may_ask_for_listed_names_alone(pickled_folder, opcodes, call, tmp_path):
    path = pickled_folder / "HAPT.pkl.gz"
    mark = tmp_path / "ran"
    for module, name, *arguments in (
        ("os", "system", f"touch {mark}"),
        ("builtins", "exec", f"open({str(mark)!r}, 'w')"),
        ("__builtin__", "eval", f"open({str(mark)!r}, 'w')"),
        ("numpy", "load", "x"),
        ("posix", "system", f"touch {mark}"),
    ):
        evil = {1: [call(module, name, *arguments)]}
        path.write_bytes(gzip.compress(b"\x80\x02" + opcodes(evil) + b"."))
        _refused(f"asks for {module}.{name}, which is not on the closed list", pickled_folder, tmp_path / "out")
    assert not mark.exists()


def test_torn_pickles(pickled_folder, opcodes, tmp_path):
    path, out = pickled_folder / "HAPT.pkl.gz", tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(whole[:-900])
    _refused("is torn or not gzip", pickled_folder, out)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-900]))
    _refused("cannot be read .*fetch it again", pickled_folder, out)
    for strange in ({1: [3]}, [1], {"x": [3]}, {1: [{"label": 3}]}):
        path.write_bytes(gzip.compress(b"\x80\x02" + opcodes(strange) + b"."))
        _refused("holds something else than HAPT's tables", pickled_folder, out)


@pytest.mark.slow
@pytest.mark.skipif("HAPT_FOLDER" not in os.environ, reason="HAPT_FOLDER names no folder with HAPT's raw files")
def test_the_published_set(tmp_path):
    datasets.prepare("hapt", os.environ["HAPT_FOLDER"], tmp_path)
    windows = har.cut(har.load("hapt", data_dir=tmp_path), length=128, hop=64, scenario="basic")
    assert np.bincount(windows.y).tolist() == [1660, 1468, 1317, 1736, 1926, 1910]
    assert np.unique(windows.subjects).tolist() == list(range(1, 31))
