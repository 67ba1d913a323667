"""A run that is killed goes on where it stood and ends with the same report, seconds aside."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

# a whole run in miniature; the number at once is fixed, since a probe's choice would change last bits
SETTINGS = {
    "seed": 5, "rounds": 2, "compression": 10, "dense_steps": 200, "committee": 2, "round_steps": 200,
    "final_steps": 300, "population": 6, "generations": 3, "calibration": 500, "at_once": 3,
}  # fmt: skip

# what starts the tests may ignore Ctrl-C, as a shell's background jobs do, and children inherit that
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from jax_prune.cli import console
console()
"""


def start(folder, cache):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    settings = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-c", MAIN, "layerwise", f"--workdir={folder}", *settings]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder, cache):
    process = start(folder, cache)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    report = json.loads((folder / "report.json").read_text())
    report.pop("seconds")
    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report of an uninterrupted run, how long it took with everything compiled, and the compilation cache."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs")
    report = finish(folder / "first", cache)
    begun = time.monotonic()
    assert finish(folder / "second", cache) == report
    return report, time.monotonic() - begun, cache


def killed_often(folder, whole, kills, seed):
    report, seconds, cache = whole
    draw = random.Random(seed)
    progress = set()
    for _ in range(kills):
        process = start(folder, cache)
        time.sleep(draw.uniform(0.05, 0.95) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        progress.add(len(list(folder.rglob("*.safetensors"))))
        if (folder / "report.json").exists():
            break
    assert finish(folder, cache) == report
    assert not [path for path in folder.rglob("*.part")]
    return progress


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills_at_random_times(tmp_path, whole, seed):
    """Four kills in each of five runs, so that no run is too far on to be interrupted again."""
    killed_often(tmp_path / "run", whole, 4, seed)


def test_ctrl_c_keeps_finished_stages(tmp_path):
    process = start(tmp_path / "run", tmp_path / "cache")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "dense.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("jax-prune: interrupted")
    assert (tmp_path / "run" / "dense.safetensors").exists()
