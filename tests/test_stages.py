"""Stages are computed once, saved whole or not at all, and refused when they are not what was saved."""

import errno
import os
import time

import jax
import numpy as np
import pytest

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.stages import Stage, Stages, locked, refuse_other, stage_key

ARRAYS = {
    "a": {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3), "scalar": np.float32(2)},
    "empty": {},
    "flag": np.array([True, False]),
}


def counted(calls):
    def compute():
        calls.append(1)
        return Stage(ARRAYS, {"loss": 0.1, "counts": [1, 2]})

    return compute


@pytest.mark.compat
def test_a_present_stage_is_read_and_equal(tmp_path):
    calls = []
    first = Stages(tmp_path, {"seed": 1})("round_1/search", counted(calls))
    stages = Stages(tmp_path, {"seed": 1})
    again = stages("round_1/search", counted(calls))
    assert len(calls) == 1 and again.facts == first.facts == {"loss": 0.1, "counts": [1, 2]}
    jax.tree.map(np.testing.assert_array_equal, again.arrays, first.arrays)
    assert jax.tree.structure(again.arrays) == jax.tree.structure(ARRAYS)
    assert jax.tree.map(np.shape, again.arrays) == jax.tree.map(np.shape, ARRAYS)
    assert list(again.facts) == list(first.facts) == ["loss", "counts"]  # the order too: reports are written in it
    assert stages.seconds["round_1/search"] >= 0


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Stages(None, {})("dense", counted([])).facts["loss"] == 0.1
    assert not list(tmp_path.iterdir())


def test_another_config_is_refused_by_name(tmp_path):
    Stages(tmp_path, {"seed": 1, "net": "a"})
    with pytest.raises(BadInput, match="holds a run with net='a', not 'b'"):
        Stages(tmp_path, {"seed": 1, "net": "b"})


def test_another_study_is_refused_in_words(tmp_path):
    Stages(tmp_path, {"study": "layerwise", "compression": 40.0})
    with pytest.raises(BadInput, match="holds a run of 'layerwise', not 'channels'") as failure:
        Stages(tmp_path, {"study": "channels", "macs": 0.25})
    assert "macs" not in str(failure.value)


def test_a_run_that_does_not_say_its_study_goes_on(tmp_path):
    Stages(tmp_path, {"macs": 0.25})
    Stages(tmp_path, {"study": "channels", "macs": 0.25})
    with pytest.raises(BadInput, match="holds a run with macs=0.25, not 0.5;"):
        Stages(tmp_path, {"study": "channels", "macs": 0.5})


@pytest.mark.parametrize("harm", ["truncate", "alter", "alter meta", "empty"])
def test_a_harmed_stage_is_refused(tmp_path, harm):
    Stages(tmp_path, {})("dense", counted([]))
    path = tmp_path / "dense.safetensors"
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        data = data[:-5]
    elif harm == "alter":
        data[-1] ^= 1
    elif harm == "alter meta":
        data = bytearray(bytes(data).replace(b"0.1", b"0.2"))
    else:
        data = bytearray()
    path.write_bytes(data)
    with pytest.raises(BadInput, match="delete it and run again"):
        Stages(tmp_path, {})("dense", counted([]))


def test_time_within_a_stage_counts_once(tmp_path):
    stages = Stages(tmp_path, {})

    def outer():
        stages("inner", lambda: time.sleep(0.2) or Stage({}, {}))
        return Stage({}, {})

    stages("outer", outer)
    assert stages.seconds["inner"] >= 0.2 > stages.seconds["outer"] >= 0


@pytest.mark.parametrize("text", ["[1, 2]", "3", "{", b'{"net": "\xff"}', ""])
def test_settings_that_do_not_read_are_refused_with_a_way_out(tmp_path, text):
    Stages(tmp_path, {"net": "a"})("dense", counted([]))
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=f"{path} .*: delete it and run the same command again") as caught:
        Stages(tmp_path, {"net": "a"})
    assert "\n" not in str(caught.value)
    path.unlink()  # as it says: what was finished is there
    calls = []
    Stages(tmp_path, {"net": "a"})("dense", counted(calls))
    assert not calls


def test_asking_whether_a_folder_is_free_writes_nothing(tmp_path):
    refuse_other(tmp_path / "run", {"net": "a"})
    assert not list(tmp_path.iterdir())
    Stages(tmp_path, {"net": "a", "sizes": (1, 2)})
    refuse_other(tmp_path, {"net": "a", "sizes": (1, 2)})
    with pytest.raises(BadInput, match="holds a run with net='a', not 'b'"):
        refuse_other(tmp_path, {"net": "b", "sizes": (1, 2)})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, where):
    path = tmp_path / "file.json"
    storage.write_json(path, {"old": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(BadInput, match=r"cannot write .*file.json: No space left on device"):
        storage.write_json(path, {"new": 2})
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["file.json"] and "old" in path.read_text()


def test_ctrl_c_while_saving_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.write_text(tmp_path / "file", "text")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        storage.write_text(tmp_path / "file" / "below", "text")


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(BadInput, match="another run is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_keys_differ_by_name_and_repeat():
    key = jax.random.key(0)
    data = [jax.random.key_data(stage_key(key, name)).tolist() for name in ("a", "b", "a")]
    assert data[0] == data[2] != data[1]


def test_paths_flatten_and_return():
    flat = storage.flatten_paths(ARRAYS)
    assert set(flat) == {"a/b", "a/scalar", "empty/", "flag"}
    assert jax.tree.structure(storage.unflatten_paths(flat)) == jax.tree.structure(ARRAYS)
