"""Every vector that a search evaluated, and its score: as rows, and as search_history.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_prune import storage
from jax_prune.errors import BadInput
from jax_prune.evosearch.evaluation import decoded
from jax_prune.evosearch.record import Info

COLUMNS = ("generation", "candidate", "accepted", "value", "violation", "exact", "work", "share")


def seen(info: Info, objective: Any = None) -> dict[str, np.ndarray]:
    """What a search saw, as arrays for a file: vectors [T, P, G], and for each what became of it [T, P].


    Where ``exact`` is False value and violation are the lower bounds at which a trial had lost (see ``racing``).
    ``share`` [T] of the data is what they were scored on.
    With an ``objective`` whose ``kept`` says what a genome [G] stands for (int [G]) also kept [T, P, G].
    """
    arrays = {
        "vectors": np.asarray(info.vectors),
        "value": np.asarray(info.score.value),
        "violation": np.asarray(info.score.violation),
        "accepted": np.asarray(info.accepted),
        "exact": np.asarray(info.exact),
        "work": np.asarray(info.work),
        "share": np.asarray(info.share),
        "evaluated": np.asarray(info.evaluated),
    }
    if objective is not None:
        arrays["kept"] = np.asarray(decoded(objective, jnp.asarray(info.vectors)))
    return arrays


def best_so_far(arrays: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """Of ``seen``: the best feasible value on all data after each evaluation; infinite before the first such one."""
    counts = (arrays["violation"] == 0) & (arrays["share"] == 1)[:, None]
    value = np.where(counts, arrays["value"], np.inf)[arrays["evaluated"]]
    return tuple(map(float, np.minimum.accumulate(value)))


def share_of_work(info: Info, early: bool = True) -> float:
    """What a search evaluated over what its generations take on all data to the end, each population scored once.

    Not ``early``: as if every trial begun had been evaluated to the end of its share, as bodies of several nearly are.
    """
    again = np.diff(info.share, prepend=info.share[:1]) > 0
    done = info.work if early else info.evaluated * info.share[:, None]
    return float(done.sum() / info.evaluated[~again].sum())


def rows(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], counted: Sequence[str] | None = None, **leading: Any
) -> list[list[Any]]:
    """Of ``seen``: the heads, then a row for every candidate in order of evaluation.

    ``leading`` are constant first columns; ``names`` head the genome's columns, and ``kept/NAME`` those of the counts
    that it stood for, NAME of ``counted`` [G], by default the same. Raises BadInput where ``names`` do not fit.
    """
    length = arrays["vectors"].shape[2]
    if len(names) != length:
        raise BadInput(f"{len(names)} names for vectors of {length} entries: give one an entry")
    counts = [f"kept/{name}" for name in (names if counted is None else counted)] if "kept" in arrays else []
    table: list[list[Any]] = [[*leading, *COLUMNS, *names, *counts]]
    for at in map(tuple, np.argwhere(arrays["evaluated"]).tolist()):
        decoded = arrays["kept"][at] if "kept" in arrays else ()
        scored = (int(arrays["accepted"][at]), arrays["value"][at], arrays["violation"][at])
        effort = (int(arrays["exact"][at]), arrays["work"][at], arrays["share"][at[0]])
        table.append([*leading.values(), *at, *scored, *effort, *arrays["vectors"][at], *decoded])
    return table


def text(table: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV; floats are written so that they read back exactly."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def write(path: str | Path, info: Info, names: Sequence[str], objective: Any = None) -> None:
    """Saves one search's ``rows`` at ``path``, atomically."""
    storage.write_text(path, text(rows(seen(info, objective), names)))
