"""Tables of numbers in text files, every complaint with file and line."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

from jax_prune.errors import BadInput


def read(path: Path, columns: int, *, delimiter: str | None = None) -> np.ndarray:
    """float64 [S, columns]; ``delimiter`` None is white space, empty lines are passed over.

    Raises BadInput, one line, for a file that is missing or empty, and with the number of the first line that has
    another number of columns (a torn last line), no number where one is needed, NaN or infinity.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the file is empty: said below
            table = np.loadtxt(path, np.float64, comments=None, delimiter=delimiter, ndmin=2, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or 'there is no such file'}") from error
    except ValueError:
        table = np.empty((0, 0))
    if not table.size or table.shape[1] != columns or not np.isfinite(table).all():
        raise BadInput(f"{path}: {_complaint(path, columns, delimiter)}; repair the line or fetch the file again")
    return table


def _complaint(path: Path, columns: int, delimiter: str | None) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        number = 0
        for number, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split(delimiter)
            if line.strip() and (wrong := _wrong(fields, columns)):
                return f"line {number} {wrong}"
    return f"none of its {number} lines holds numbers"


def _wrong(fields: list[str], columns: int) -> str | None:
    if len(fields) != columns:
        return f"has {len(fields)} columns where {columns} are needed"
    for column, field in enumerate(fields, start=1):
        try:
            value = float(field)
        except ValueError:
            return f"has '{field.strip()[:20]}' in column {column}, not a number"
        if not math.isfinite(value):
            return f"has a missing sample ({field.strip()}) in column {column}"
    return None
