"""Disk full, killed while saving, two processes, no permission: what is on disk stays whole and a run goes on."""

import builtins
import errno
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from jax_prune import evosearch, learning, nets, storage
from jax_prune.compress import Plan, compress
from jax_prune.errors import BadInput
from jax_prune.stages import Stage, Stages, locked
from jax_prune.types import Batch

RNG = np.random.default_rng(4)
X = RNG.normal(size=(200, 6)).astype(np.float32)
DATA = Batch(X, (X @ RNG.normal(size=(6, 3))).argmax(1).astype(np.int32))
PLAN = Plan(
    compression=3.0, rounds=2, round_steps=200, final_steps=200, calibration=100,
    recipe=learning.Recipe(learning_rate=1e-2, batch_size=32), search=evosearch.Config(population=6, generations=3),
    at_once=6,
)  # fmt: skip
NAMES = ["sensitivity", "search", "tuned"]


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 16, rngs=rngs)
        self.last = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


NET = nets.from_nnx(Mlp(nnx.Rngs(0)))


def run(folder):
    return compress(jax.random.key(0), NET, DATA, DATA, PLAN, stages=Stages(folder, {"seed": 0}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("fails_at", [2, 4, 6])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_costs_only_the_stage_at_hand(tmp_path, monkeypatch, whole, fails_at, call):
    real, calls = getattr(os, call), []

    def full(*arguments):
        calls.append(1)
        if len(calls) > fails_at:  # the first two are config.json and the plan
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(BadInput, match="No space left on device.*free space"):
        run(tmp_path)
    monkeypatch.undo()
    stages = [f"round_{number}/{name}.safetensors" for number in (1, 2) for name in NAMES]
    stages.insert(1, "probe.safetensors")  # before the first search
    done = stages[: fails_at - 2]
    assert files(tmp_path) == sorted(["config.json", "plan.safetensors", *done])
    for name in done:
        storage.load_arrays(tmp_path / name)
    again = run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.net.params, whole.net.params)
    np.testing.assert_array_equal(again.kept, whole.kept)


@pytest.mark.parametrize("looks", [2, 6])
def test_a_search_that_was_cut_short_goes_on_in_its_middle(tmp_path, monkeypatch, whole, looks):
    real, seen = evosearch.search, []

    class Cut(Exception):
        pass

    def search(*arguments, progress, **options):
        def cut(generations, text):
            progress(generations, text)
            seen.append((generations, options["checkpoint"]))
            if len(seen) == looks:
                raise Cut

        return real(*arguments, progress=cut, checkpoint_seconds=0, **options)

    monkeypatch.setattr(evosearch, "search", search)
    with pytest.raises(Cut):
        run(tmp_path)
    assert seen[-1][1].is_dir() and seen[-1][1].is_relative_to(tmp_path / "round_1")
    again = run(tmp_path)
    assert (2, seen[looks - 1][1]) in seen[looks:]  # two generations were there
    jax.tree.map(np.testing.assert_array_equal, again.net.params, whole.net.params)
    np.testing.assert_array_equal(again.kept, whole.kept)
    for name in ("de", "random"):
        one, other = (found.rounds[0].search.arrays[name] for found in (again, whole))
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    real = builtins.open

    class Half:
        def __init__(self, *arguments):
            self.file = real(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(builtins, "open", Half)
    with pytest.raises(BadInput, match="No space left"):
        storage.save_arrays(tmp_path / "a.safetensors", {"a": np.zeros(1000)}, {})
    monkeypatch.undo()
    assert files(tmp_path) == []


def test_a_place_without_permission_is_named(tmp_path, monkeypatch):
    def denied(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))

    monkeypatch.setattr(builtins, "open", denied)
    with pytest.raises(BadInput, match=r"cannot write .*file: Permission denied"):
        storage.write_text(tmp_path / "file", "text")
    with pytest.raises(BadInput, match="cannot write to --workdir .*Permission denied"), locked(tmp_path / "run"):
        pass


KILLED = """
import os, signal, sys
import numpy as np
from jax_prune.stages import Stage, Stages
stages = Stages(sys.argv[1], {})
stages("first", lambda: Stage({"a": np.arange(5)}, {}))
real = getattr(os, sys.argv[2])
setattr(os, sys.argv[2], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
stages("second", lambda: Stage({"a": np.arange(5)}, {}))
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_while_saving(tmp_path, call):
    command = [sys.executable, "-c", KILLED, str(tmp_path), call]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    calls = []

    def compute():
        calls.append(1)
        return Stage({"a": np.arange(5)}, {})

    stages = Stages(tmp_path, {})
    assert [stages(name, compute).arrays["a"].tolist() for name in ("first", "second")] == [[0, 1, 2, 3, 4]] * 2
    assert len(calls) == 1  # the second alone, whose file was not whole
    assert {"first.safetensors", "second.safetensors"} <= set(files(tmp_path))


def test_what_a_killed_run_left_half_written_is_swept_up(tmp_path):
    left = tmp_path / "round_1" / ".tuned.safetensors.99999.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with locked(tmp_path):
        Stages(tmp_path, {})("round_1/tuned", lambda: Stage({}, {}))
    assert not left.exists()


HOLDER = """
import sys
from jax_prune.stages import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_holds_the_folder_until_it_dies(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match="another run is at work in .*choose another --workdir"), locked(tmp_path):
            pass
        holder.kill()  # the lock goes with the process: nobody has to clean up after a killed run
        holder.wait()
        with locked(tmp_path):
            pass


def test_seconds_of_stages_within_are_counted():
    stages = Stages(None, {})
    stages.within("allocations/lamp")("round_1/search", lambda: Stage({}, {}))
    assert any("lamp" in name for name in stages.seconds)


def test_stages_within_lie_in_their_own_folder(tmp_path):
    stages = Stages(tmp_path, {})
    stages("round_1/search", lambda: Stage({}, {"who": "main"}))
    inner = stages.within("allocations/lamp")("round_1/search", lambda: Stage({}, {"who": "lamp"}))
    assert inner.facts == {"who": "lamp"}
    assert (tmp_path / "allocations" / "lamp" / "round_1" / "search.safetensors").exists()
