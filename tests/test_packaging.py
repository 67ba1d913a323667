"""What a fresh machine installs: the locks, setup.py and the scripts agree with each other."""

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*")
LOCKS = ["requirements.lock", "requirements-oldest.txt"]


def pins(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines if PIN.fullmatch(line)), lines


def setup_value(name):
    """The literal that setup.py assigns to ``name``."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py assigns no {name}")


def requirements():
    extras = setup_value("EXTRAS")
    wanted = [*setup_value("BASE"), *(line for extra in ("data", "report", "test") for line in extras[extra])]
    found = [re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)", line) for line in wanted]
    return {each[1].lower().replace("_", "-"): each[2] for each in found}


def numbers(version):
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_pin_every_requirement_exactly_and_nothing_local(lock):
    found, lines = pins(lock)
    assert len(found) == len(lines), [line for line in lines if not PIN.fullmatch(line)]
    assert "torch" not in found
    for name, least in requirements().items():
        assert numbers(found[name]) >= numbers(least), name


def test_the_oldest_set_is_what_setup_promises():
    found, _ = pins("requirements-oldest.txt")
    for name in ("jax", "flax", "optax", "chex", "evosax", "numpy"):
        least = numbers(requirements()[name])
        assert numbers(found[name])[: len(least)] == least, name
    newest, _ = pins("requirements.lock")
    assert numbers(found["jax"]) < numbers(newest["jax"])


def test_extras_have_their_names():
    assert set(setup_value("EXTRAS")) == {"test", "report", "deploy", "data", "bench"}


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh"])
def test_an_unfit_python_is_refused_in_one_line(script, tmp_path):
    copy = tmp_path / "repo"
    shutil.copytree(ROOT / "launch", copy / "launch")
    for said in ("/no/such/python", "/bin/false"):
        environment = {**os.environ, "PYTHON": said}
        command = ["bash", str(copy / "launch" / script)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{script}: error: PYTHON={said}") and done.stderr.count("\n") == 1
    assert not (copy / ".venv").exists()


def test_data_files_beside_the_code_are_packaged():
    text = (ROOT / "setup.py").read_text()
    patterns = ast.literal_eval(re.search(r'"jax_prune": (\[[^\]]*\])', text)[1])
    package, caches = ROOT / "jax_prune", {"__pycache__", ".ruff_cache", ".mypy_cache"}
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    beside = {path for path in package.rglob("*") if path.is_file() and not caches & {*path.parts}}
    assert {path for path in beside if path.suffix not in {".py", ".pyc"}} == packaged
    assert {
        package / "datasets/mnist.xz",
        package / "datasets/har/watch.xz",
        package / "datasets/har/WATCH.md",
    } <= packaged
