"""Every vector that a search evaluated, and its score: as rows, and as search_history.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.evosearch.evolution import Info
from jax_prune.types import Array

COLUMNS = ("generation", "candidate", "accepted", "value", "violation")


def text(info: Info, names: Sequence[str], kept: Callable[[Array], Array] | None = None) -> str:
    """CSV, one row a candidate in order of evaluation; floats are written so that they read back exactly.

    ``names`` [G] head the genome's columns. With ``kept``, an objective's genome [G] -> int [G], columns
    ``kept/NAME`` follow: what the genome stood for. Raises BadInput where ``names`` do not fit.
    """
    vectors = np.asarray(info.vectors)
    generations, population, length = vectors.shape
    if len(names) != length:
        raise BadInput(f"{len(names)} names for vectors of {length} entries: give one a group")
    rows = vectors.reshape(-1, length)
    decoded = np.zeros((len(rows), 0), int) if kept is None else np.asarray(jax.jit(jax.vmap(kept))(rows))
    heads = [] if kept is None else [f"kept/{name}" for name in names]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *names, *heads])
    flat = [np.asarray(leaf).reshape(-1) for leaf in (info.accepted, info.score.value, info.score.violation)]
    for index, (accepted, value, violation) in enumerate(zip(*flat, strict=True)):
        place = divmod(index, population)
        writer.writerow([*place, int(accepted), value, violation, *rows[index], *decoded[index]])
    return out.getvalue()


def write(path: str | Path, info: Info, names: Sequence[str], kept: Callable[[Array], Array] | None = None) -> None:
    """Saves ``text`` at ``path``, atomically."""
    storage.write_text(path, text(info, names, kept))
