"""One set-up for all tests: CPU, quiet, compiled programs kept between runs, and let go between files."""

import os
from importlib import metadata
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# JAX 0.6 reads some programs back wrong on CPU: losses of 0 in a second run
if tuple(map(int, metadata.version("jax").split(".")[:2])) >= (0, 7):
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs():
    """Lets go of a file's programs after it: a process holds 65,530 mapped regions on Linux, and XLA crashes beyond."""
    import jax

    yield
    jax.clear_caches()
