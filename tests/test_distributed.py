"""Several processes of one run: settings that do not read are refused, and the first one's word holds for all."""

import json
import os
import socket
import subprocess
import sys

import pytest

from jax_prune import distributed, storage
from jax_prune.errors import BadInput

WHOLE = {"JAX_PRUNE_COORDINATOR": "localhost:4000", "JAX_PRUNE_PROCESSES": "2", "JAX_PRUNE_PROCESS": "0"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"JAX_PRUNE_COORDINATOR": "localhost"}, "'localhost': give HOST:PORT"),
        ({"JAX_PRUNE_COORDINATOR": "localhost:http"}, "'localhost:http': give HOST:PORT"),
        ({"JAX_PRUNE_COORDINATOR": ":4000"}, "':4000': give HOST:PORT"),
        ({"JAX_PRUNE_PROCESSES": ""}, "JAX_PRUNE_PROCESSES is '': give a whole number"),
        ({"JAX_PRUNE_PROCESS": "-1"}, "JAX_PRUNE_PROCESS is '-1'"),
        ({"JAX_PRUNE_PROCESS": "2"}, "is 2 of JAX_PRUNE_PROCESSES 2: number the processes from 0"),
    ],
)
def test_settings_that_do_not_read(changed, says):
    with pytest.raises(BadInput, match=says):
        distributed.start(WHOLE | changed)


def test_one_process_alone_is_the_first_and_agrees_with_itself(tmp_path):
    distributed.start({})
    assert distributed.is_first() and distributed.count() == 1 and distributed.agreed(b"data") == b"data"
    storage.write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


RUN = """
import json, os, sys, time
import numpy as np
from jax_prune import distributed, progress
from jax_prune.stages import Stage, Stages, locked
distributed.start()
me = int(os.environ["JAX_PRUNE_PROCESS"])
computed = []
def compute():
    computed.append(me)
    time.sleep(me)  # those that come late are waited for
    arrays = {"layer": {"kernel": np.full((2, 3), me, np.float32)}, "none": {}}
    return Stage(arrays, {"who": me, "order": {"b": 1, "a": 2}})
with locked(sys.argv[1]):
    stages = Stages(sys.argv[1], {"seed": 0})
    first, again = stages("round_1/search", compute), Stages(sys.argv[1], {"seed": 0})("round_1/search", compute)
    progress.note("seen once")
for stage in (first, again):
    assert stage.arrays["layer"]["kernel"].tolist() == [[0, 0, 0]] * 2 and stage.arrays["none"] == {}, stage
    assert stage.facts == {"who": 0, "order": {"b": 1, "a": 2}} and list(stage.facts["order"]) == ["b", "a"]
assert computed == [me]
print(json.dumps([me, distributed.count(), distributed.is_first()]))
if len(sys.argv) > 2 and me == int(sys.argv[2]):
    distributed.leave(5)
"""


def start(folder, *arguments):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = {**os.environ, "JAX_PRUNE_COORDINATOR": f"127.0.0.1:{port}", "JAX_PRUNE_PROCESSES": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), *arguments], env=settings | {"JAX_PRUNE_PROCESS": str(number)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip


@pytest.mark.compat
def test_two_processes_have_the_first_ones_stages_and_the_first_alone_writes(tmp_path):
    processes = start(tmp_path)
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    said = [json.loads(output.splitlines()[-1]) for output, _ in ends]
    assert said == [[0, 2, True], [1, 2, False]]
    assert ["seen once" in errors for _, errors in ends] == [True, False]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        ".lock", "config.json", "search.safetensors",
    ]  # fmt: skip


def test_one_that_fails_does_not_wait_for_the_others(tmp_path):
    processes = start(tmp_path, "1")
    try:
        assert processes[1].wait(60) == 5
    finally:
        for process in processes:
            process.kill()
            process.communicate()
