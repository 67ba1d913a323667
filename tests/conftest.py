"""One set-up for all tests: CPU, quiet, and compiled programs kept between runs."""

import os
from importlib import metadata
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# JAX 0.6 reads some programs back wrong on CPU: losses of 0 in a second run
if tuple(map(int, metadata.version("jax").split(".")[:2])) >= (0, 7):
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
