"""The same searches, bit for bit, on one device, on eight, and on two processes that talk over loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jax_prune import evosearch
from jax_prune.errors import BadInput

HERE = Path(__file__).parent


def start(out, cases, *meshes, **settings):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)]), **settings}
    command = [sys.executable, str(HERE / "sharded.py"), str(out), cases, *meshes]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def start_two(out, cases, *meshes):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{listener.getsockname()[1]}"
    shared = {"JAX_PRUNE_COORDINATOR": where, "JAX_PRUNE_PROCESSES": "2"}
    return [start(out, cases, *meshes, **shared, JAX_PRUNE_PROCESS=number) for number in "01"]


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=1500)
        assert process.returncode == 0, errors


def check_the_same(folder, *meshes):
    with np.load(folder / "found.none.npz") as whole:
        assert len(whole.files) > 40
        for mesh in meshes:
            with np.load(folder / f"found.{mesh}.npz") as found:
                assert set(found) == set(whole)
                differ = [name for name in whole if not np.array_equal(found[name], whole[name], equal_nan=True)]
                assert not differ, f"{mesh}: {differ}"


EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def test_two_devices_and_two_processes_find_what_one_does(tmp_path):
    out = tmp_path / "found"
    two = start_two(out, "few", "2x1")
    finish(start(out, "few", "none"), *two)
    check_the_same(tmp_path, "2x1")


@pytest.mark.slow
def test_every_kind_of_search_on_every_mesh(tmp_path):
    out = tmp_path / "found"
    finish(start(out, "all", "none", "1x1"))
    finish(start(out, "all", "8x1", "4x2", "2x4", **EIGHT))
    finish(*start_two(out, "all", "2x1", "1x2"))
    check_the_same(tmp_path, "1x1", "8x1", "4x2", "2x4", "2x1", "1x2")


def test_a_mesh_of_one_device_recompiles_for_nothing_new(make, loss):
    ratios = evosearch.Bounds(np.zeros(3), np.full(3, 0.9))
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), evosearch.sharding.AXES)
    config, compiled = evosearch.Config(population=6, generations=2, at_once=3), []
    for seed in range(3):
        masked = evosearch.masked_loss(*make(seed), loss, None, chunk=9)
        fitness, box = evosearch.budget_loss(masked, 70, ratios), evosearch.genome_box(masked.sizes, ratios)
        evosearch.search(jax.random.key(seed), config, box, fitness, mesh=mesh)
        compiled.append(evosearch.compilations())
    assert compiled[0] == compiled[1] == compiled[2]


def test_a_mesh_with_other_axes_is_refused():
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    box = evosearch.Bounds(np.zeros(2), np.ones(2))
    with pytest.raises(BadInput, match=r"mesh has the axes \('batch',\): name them \('candidates', 'data'\)"):
        evosearch.search(jax.random.key(0), evosearch.Config(), box, jnp.sum, mesh=mesh)
