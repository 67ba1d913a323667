"""Reads the two published files of recordings that are pickles, without running what pickles may ask for.

An unpickler with a closed list: the few names that these files hold stand for classes of ours that only record
what they are given, and any other name ends the reading. pandas is not needed, and neither it nor NumPy is called.
For the prepare step alone; nothing is unpickled at run time.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jax_prune.errors import BadInput, said

DTYPES = {"f8": np.dtype("<f8"), "i8": np.dtype("<i8")}
NPY_HEADER = b"\x93NUMPY\x01\x00"


class Node:
    """Stands for any object of the file: the arguments and the state it was given."""

    def __init__(self, *arguments: Any):
        """Records ``arguments``."""
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Records ``state``."""
        self.state = state


def _reconstructed(kind: Any, *_: Any) -> Node:
    return Node(kind)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


CLOSED_LIST = {
    "_codecs encode": _encoded,
    "__builtin__ object": Node,
    "__builtin__ slice": slice,
    "copy_reg _reconstructor": _reconstructed,
    "numpy ndarray": Node,
    "numpy dtype": Node,
    "numpy.core.multiarray _reconstruct": _reconstructed,
    "pandas.core.frame DataFrame": Node,
    "pandas.core.indexes.base Index": Node,
    "pandas.core.indexes.base _new_Index": Node,
    "pandas.core.indexes.range RangeIndex": Node,
    "pandas.core.internals.managers BlockManager": Node,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return CLOSED_LIST[f"{module} {name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not on the closed list") from None


def read(path: Path) -> Any:
    """The object in ``path`` (plain, ``.gz``, or ``.npy`` of one object), of built-in types and Nodes.

    Raises BadInput for a file that is missing, torn, or asks for a name outside ``CLOSED_LIST``.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path} is torn or not gzip ({error}); fetch it again") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    start = 10 + int.from_bytes(data[8:10], "little") if data.startswith(NPY_HEADER) else 0
    try:
        return _Unpickler(io.BytesIO(data[start:])).load()
    except Exception as error:  # a torn pickle raises whatever its half-read state leads to
        raise BadInput(f"{path} cannot be read ({said(error)}); fetch it again") from error


def array(node: Node) -> np.ndarray:
    """The array that ``node`` stands for, float64 or int64. Raises ValueError for any other."""
    _, shape, dtype, fortran, data = node.state
    if not isinstance(data, bytes) or dtype.arguments[0] not in DTYPES or dtype.state[1] != "<":
        raise ValueError("an array is not little-endian float64 or int64")
    return np.frombuffer(data, DTYPES[dtype.arguments[0]]).reshape(shape, order="F" if fortran else "C")


def column_names(index: Node) -> list[str]:
    """The labels of a pandas Index."""
    return list(index.arguments[1]["data"].state[4])


def frame(node: Node) -> dict[str, np.ndarray]:
    """Columns [S] of a DataFrame by name. Raises ValueError, TypeError or LookupError for something else."""
    _, blocks, items, *_ = node.state["_data"].state
    columns: dict[str, np.ndarray] = {}
    for values, index in zip(blocks, items, strict=True):
        columns |= dict(zip(column_names(index), array(values), strict=True))
    return columns
