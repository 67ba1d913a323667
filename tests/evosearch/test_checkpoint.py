"""A search that was interrupted, in the middle or while it was saving, goes on and ends with the same bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, Config

HERE = Path(__file__).parent
RATIOS = Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
CASES = [
    pytest.param("budget", Config("best1bin", 10, 7, at_once=4), marks=pytest.mark.optimized),
    ("tolerance", Config("shade", 10, 7)),
    ("plain", Config("jde", 10, 7, chunk=2)),
]


@pytest.fixture
def fitness_of(problem, loss, metric):
    masked = evosearch.masked_loss(*problem, loss, metric, chunk=9)

    def fitness(form):
        if form == "budget":
            return evosearch.budget_loss(masked, 70, RATIOS), evosearch.genome_box((84, 104, 36), RATIOS)
        if form == "tolerance":
            return evosearch.tolerance(masked, 1.0, 0.3), RATIOS
        return jax.tree_util.Partial(lambda centre, genome: jnp.sum((genome - centre) ** 2), jnp.float32(0.3)), RATIOS

    return fitness


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


class Stopped(Exception):
    """What ends a search in its middle."""


def stopped_after(looks):
    seen = []

    def progress(generations, text):
        seen.append(generations)
        if len(seen) == looks:
            raise Stopped

    return progress


@pytest.mark.compat
@pytest.mark.parametrize(("form", "config"), CASES)
def test_stopped_at_every_look_it_ends_with_the_same_bits(tmp_path, fitness_of, form, config):
    fitness, box = fitness_of(form)
    whole = evosearch.search(jax.random.key(2), config, box, fitness)
    where = {"checkpoint": tmp_path / "search", "checkpoint_seconds": 0}
    compiled = evosearch.compilations()
    for _ in range(20):
        try:  # the second look, since the first one tells what was restored
            resumed = evosearch.search(jax.random.key(2), config, box, fitness, progress=stopped_after(2), **where)
            break
        except Stopped:
            continue
    same(resumed, whole)
    assert evosearch.compilations() == compiled
    assert len([path for path in (tmp_path / "search" / "evosearch").iterdir() if path.name.isdecimal()]) == 2
    told = []
    again = evosearch.search(jax.random.key(2), config, box, fitness, progress=lambda *said: told.append(said), **where)
    same(again, whole)
    assert told == [(8, told[0][1])]  # all of it was there


@pytest.fixture
def interrupted(tmp_path, fitness_of):
    """A search that was stopped after five looks, saved at each: how to call it again, and what it would have found."""
    form, config = CASES[1]
    fitness, box = fitness_of(form)
    whole = evosearch.search(jax.random.key(2), config, box, fitness)

    def search(progress=None):
        return evosearch.search(
            jax.random.key(2), config, box, fitness, progress=progress, checkpoint=tmp_path, checkpoint_seconds=0
        )

    with pytest.raises(Stopped):
        search(stopped_after(5))
    return search, whole


@pytest.mark.parametrize("harm", ["truncated", "emptied", "altered"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path, interrupted, capsys, harm):
    search, whole = interrupted
    newest = tmp_path / "evosearch" / "5"
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    for path in files:
        data = path.read_bytes()
        if harm == "altered":
            path.write_bytes(data[:-9] + bytes(byte ^ 0x5A for byte in data[-9:]))
        else:
            path.write_bytes(data[: len(data) // 2] if harm == "truncated" else b"")
    told = []
    result = search(lambda generations, text: told.append(generations))
    same(result, whole)
    assert told[0] == 4
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "generation 5" in said[0] and "going on from before" in said[0]


@pytest.mark.parametrize(("file", "first_told"), [("5", 4), ("1", 1)])
def test_a_torn_file_of_what_was_seen_takes_the_checkpoints_with_it_that_name_it(
    tmp_path, interrupted, file, first_told
):
    search, whole = interrupted
    torn = tmp_path / "evosearch" / "looks" / f"{file}.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    told = []
    same(search(lambda generations, text: told.append(generations)), whole)
    assert told[0] == first_told and sum(told) == len(CASES[1][1].sizes)


def test_a_save_costs_the_same_however_long_the_search_has_run(tmp_path):
    """Every generation is written once: files of what was seen do not grow, nor does the state."""
    box, length = Bounds(np.zeros(50), np.ones(50)), 12
    config = Config("shade", 16, length - 1, at_once=16, chunk=1)
    evosearch.search(jax.random.key(0), config, box, total, checkpoint=tmp_path, checkpoint_seconds=0)
    sizes = [path.stat().st_size for path in (tmp_path / "evosearch" / "looks").iterdir()]
    assert len(sizes) == length and max(sizes) < 1.02 * min(sizes)
    vectors = 4 * 16 * 50
    assert vectors < min(sizes) < 2 * vectors
    states = [sum(path.stat().st_size for path in (tmp_path / "evosearch" / str(step)).rglob("*") if path.is_file())
              for step in (length - 1, length)]  # fmt: skip
    assert abs(states[1] - states[0]) < 0.3 * states[0]  # compressed


def test_where_nothing_can_be_read_it_begins_anew(tmp_path, fitness_of):
    form, config = CASES[2]
    fitness, box = fitness_of(form)
    torn = tmp_path / "evosearch" / "3"
    torn.mkdir(parents=True)
    (torn / "arrays").write_bytes(b"nonsense")
    found = evosearch.search(jax.random.key(2), config, box, fitness, checkpoint=tmp_path, checkpoint_seconds=0)
    same(found, evosearch.search(jax.random.key(2), config, box, fitness))


def test_another_search_is_refused(tmp_path, fitness_of, make, loss):
    form, config = CASES[0].values
    fitness, box = fitness_of(form)
    where = {"checkpoint": tmp_path, "checkpoint_seconds": 0}
    evosearch.search(jax.random.key(2), config, box, fitness, **where)
    other = evosearch.budget_loss(evosearch.masked_loss(*make(1), loss, None, chunk=9), 70, RATIOS)
    for key, settings, limits, question in (
        (3, config, box, fitness),
        (2, Config("rand1bin", 10, 7, at_once=3), box, fitness),
        (2, config, RATIOS, fitness),
        (2, config, box, other),
    ):
        with pytest.raises(BadInput, match="holds a checkpoint of another search: give each its own folder"):
            evosearch.search(jax.random.key(key), settings, limits, question, **where)


def test_what_else_lies_in_the_folder_is_never_touched(tmp_path):
    for name in ("1", "7", "2024"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    for _ in range(2):
        evosearch.search(
            jax.random.key(0), Config(population=4, generations=5), RATIOS, total, checkpoint=tmp_path,
            checkpoint_seconds=0,
        )  # fmt: skip
    assert [(tmp_path / name / "thesis.txt").read_text() for name in ("1", "7", "2024")] == ["mine"] * 3


def total(genome):
    return jnp.sum(genome)


def test_a_function_with_other_constants_is_refused(tmp_path):
    def make(shift):
        def fitness(genome):
            return jnp.sum((genome - shift) ** 2)

        return fitness

    def search(fitness):
        where = {"checkpoint": tmp_path, "checkpoint_seconds": 0}
        return evosearch.search(jax.random.key(0), Config(population=4, generations=3), RATIOS, fitness, **where)

    assert search(make(1.0)).score == search(make(1.0)).score
    with pytest.raises(BadInput, match="another folder"):
        search(make(50.0))


def test_short_searches_write_nothing(tmp_path, fitness_of):
    form, config = CASES[2]
    fitness, box = fitness_of(form)
    evosearch.search(jax.random.key(2), config, box, fitness, checkpoint=tmp_path / "search")
    assert not (tmp_path / "search").exists()


# a third argument N has it killed in the middle of a save, at the N-th renaming: then the temporary folder is there
RUN = """
import os, signal, sys
import jax, numpy as np
from conftest import SIZES, close, make_problem, squared
from jax_prune import evosearch
ratios = evosearch.Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
masked = evosearch.masked_loss(*make_problem(0), squared, close, chunk=9)
fitness, box = evosearch.budget_loss(masked, 70, ratios), evosearch.genome_box(SIZES, ratios)
config = evosearch.Config("shade", 10, 40, at_once=4)
renamings = []
def dying(real):
    def rename(*arguments, **options):
        renamings.append(1)
        if len(renamings) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return rename
if len(sys.argv) > 3:
    os.rename, os.replace = dying(os.rename), dying(os.replace)
print("begun", flush=True)
result = evosearch.search(
    jax.random.key(2), config, box, fitness, checkpoint=sys.argv[1], checkpoint_seconds=0,
    progress=lambda generations, text: print(generations, flush=True),
)
leaves = jax.tree_util.tree_leaves_with_path((result.state, result.info, result.best))
np.savez(sys.argv[2], **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})
"""


def start(folder, out, *killed_at):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    command = [sys.executable, "-c", RUN, str(folder), str(out), *map(str, killed_at)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(folder, out):
    assert start(folder, out).wait(300) == 0
    with np.load(out) as found:
        return dict(found)


def kill_after(process, looks, seconds):
    """SIGKILL some time after so many looks."""
    for _ in range(looks + 1):
        process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def killed_while_saving(folder, out, renaming):
    """SIGKILL in the middle of a save, which leaves what it had written so far."""
    assert start(folder, out, renaming).wait(300) == -signal.SIGKILL
    assert [path for path in folder.rglob("*") if "tmp" in path.name or path.suffix == ".part"]


def test_killed_in_the_middle_and_while_saving(tmp_path):
    folder = tmp_path / "killed"
    whole = finish(tmp_path / "whole", tmp_path / "whole.npz")
    kill_after(start(folder, tmp_path / "none.npz"), 4, 0)
    killed_while_saving(folder, tmp_path / "none.npz", 5)
    assert not (tmp_path / "none.npz").exists()
    resumed = finish(folder, tmp_path / "resumed.npz")
    assert whole.keys() == resumed.keys()
    same(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_many_times(tmp_path, seed):
    whole = finish(tmp_path / "whole", tmp_path / "whole.npz")
    folder, draw = tmp_path / "killed", random.Random(seed)
    for _ in range(4):
        kill_after(start(folder, tmp_path / "none.npz"), draw.randrange(4), draw.uniform(0, 0.1))
        killed_while_saving(folder, tmp_path / "none.npz", draw.randrange(1, 9))
    same(finish(folder, tmp_path / "resumed.npz"), whole)


def test_a_flipped_bit_in_any_file_is_passed_over_in_one_line(tmp_path, capfd):
    def search(folder, progress=None):
        return evosearch.search(
            jax.random.key(2), Config("jde", 4, 5, chunk=1), RATIOS, total, progress=progress, checkpoint=folder,
            checkpoint_seconds=0,
        )  # fmt: skip

    with pytest.raises(Stopped):
        search(tmp_path / "whole", stopped_after(3))
    whole = search(tmp_path / "other")
    newest = tmp_path / "whole" / "evosearch" / "3"
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    draw = random.Random(4)
    for path in files:
        shutil.rmtree(tmp_path / "torn", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "torn")
        harmed = tmp_path / "torn" / path.relative_to(tmp_path / "whole")
        data = bytearray(harmed.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        harmed.write_bytes(data)
        capfd.readouterr()
        same(search(tmp_path / "torn").best, whole.best)
        said = capfd.readouterr().err.strip().splitlines()
        assert len(said) == 1 and "generation 3" in said[0] and f"{tmp_path / 'torn'}" in said[0]
    assert len(files) > 5
