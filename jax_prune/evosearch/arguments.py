"""What a caller hands a search, looked at before anything is computed: one line for each that is of no use."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_prune import settings
from jax_prune.errors import BadInput
from jax_prune.evosearch.config import Config
from jax_prune.settings import shown
from jax_prune.types import Bounds

CHECKPOINT = (str, os.PathLike, type(None))


def check(key: Any, config: Any, progress: Any = None) -> None:
    """Raises BadInput unless ``key`` is one key, ``config`` a Config, and ``progress`` a function or None."""
    check_key(key)
    if not isinstance(config, Config):
        raise BadInput(f"config is {shown(config)}: give an evosearch.Config")
    if progress is not None and not callable(progress):
        raise BadInput(f"progress is {shown(progress)}: give a function of (generations, text)")


def check_places(mesh: Any, checkpoint: Any, seconds: Any) -> None:
    """Raises BadInput for a mesh that is none, a checkpoint that is no path, and seconds that are no number."""
    if mesh is not None and not isinstance(mesh, Mesh):
        raise BadInput(f"mesh is {shown(mesh)}: give a jax.sharding.Mesh with the axes ('candidates', 'data')")
    if not isinstance(checkpoint, CHECKPOINT):
        raise BadInput(f"checkpoint is {shown(checkpoint)}: give the path of a folder")
    if not (settings.fits(seconds, float) and seconds >= 0):
        raise BadInput(f"checkpoint_seconds is {shown(seconds)}: give 0 or more")


def check_key(key: Any) -> None:
    """Raises BadInput unless ``key`` is one JAX key, of either kind."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        fits = key.shape == ()
    else:
        fits = isinstance(key, (jax.Array, np.ndarray)) and key.dtype == np.uint32 and key.ndim == 1
    if not fits:
        raise BadInput(f"key is {shown(key)}: give one key, jax.random.key(0), say")


def floats(given: Any, name: str) -> np.ndarray:
    """What was given as float32. Raises BadInput for what holds no real numbers, or rows of several lengths."""
    try:
        array = np.asarray(given)
        real = array.dtype.kind in "biuf" or jnp.issubdtype(array.dtype, jnp.floating)
    except ValueError:
        real = False
    if not real:
        raise BadInput(f"{name} is {shown(given)}: give an array of real numbers")
    return array.astype(np.float32)


def box(bounds: Bounds) -> Bounds:
    """The box as float32 arrays [G]. Raises BadInput where it is crossed, not finite, misshapen, or no numbers."""
    lower, upper = (floats(side, "a side of the bounds") for side in _pair(bounds))
    if lower.ndim != 1 or lower.shape != upper.shape or not lower.size:
        raise BadInput(f"bounds have shapes {list(lower.shape)} and {list(upper.shape)}: give two arrays [G]")
    bad = ~(np.isfinite(lower) & np.isfinite(upper))
    if bad.any():
        entry = int(np.argmax(bad))
        raise BadInput(f"bounds[{entry}] are {lower[entry]} and {upper[entry]}: give finite numbers")
    if (lower > upper).any():
        entry = int(np.argmax(lower > upper))
        raise BadInput(f"bounds[{entry}] are crossed: lower {lower[entry]:g} is above upper {upper[entry]:g}")
    return Bounds(jnp.asarray(lower), jnp.asarray(upper))


def _pair(bounds: Any) -> tuple[Any, Any]:
    """Both sides of the bounds. Raises BadInput for what has no two sides."""
    try:
        lower, upper = bounds
    except (TypeError, ValueError):
        raise BadInput(f"bounds are {shown(bounds)}: give Bounds(lower, upper), two arrays [G]") from None
    return lower, upper
