"""Tiny raw files in the published formats, made here; a writer of pickles opcode by opcode."""

from __future__ import annotations

import gzip
from typing import NamedTuple

import numpy as np
import pytest

from jax_prune.datasets import har

CODES = {1: [(1, 3, 40), (5, 41, 60)], 2: [(12, 0, 9), (6, 20, 69)], 3: []}  # experiment: (code, first, last sample)
USERS = {1: 1, 2: 1, 3: 2}


@pytest.fixture
def make_set():
    """Draws a set of recordings: lengths by subject, three activities and unlabelled samples, two channels."""

    def make(lengths, seed=0, subjects=None, kinds=3):
        rng = np.random.default_rng(seed)
        recordings = []
        for index, length in enumerate(lengths):
            runs = np.repeat(rng.integers(-1, kinds, length), rng.integers(1, 9, length))[:length]
            samples = rng.normal((index, -3), (2, 5), (length, 2))
            recordings.append(har.Recording(samples, runs, subjects[index] if subjects else index))
        names = [f"activity {kind}" for kind in range(kinds)]
        return har.gather(recordings, activities=names, channels=["a", "b"], rate=50, scenarios={"few": names[1:]})

    return make


@pytest.fixture
def experiments():
    """{experiment: samples float64 [70, 6]}, in the lattice of float32 so that every copy holds the same numbers."""
    rng = np.random.default_rng(2)
    return {each: rng.normal(size=(70, 6)).astype(np.float32).astype(np.float64) for each in CODES}


@pytest.fixture
def labelled():
    """What the files say of the experiments: (code, first, last sample) of each, and its user."""
    return CODES, USERS


@pytest.fixture
def uci_folder(tmp_path, experiments):
    folder = tmp_path / "RawData"
    folder.mkdir()
    lines = []
    for each, samples in experiments.items():
        for sensor, columns in (("acc", samples[:, :3]), ("gyro", samples[:, 3:])):
            text = "\n".join(" ".join(repr(float(value)) for value in row) for row in columns)
            (folder / f"{sensor}_exp{each:02d}_user{USERS[each]:02d}.txt").write_text(text + "\n")
        lines += [f"{each} {USERS[each]} {code} {first} {last}" for code, first, last in CODES[each]]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def pickled_folder(tmp_path, experiments):
    """The same experiments as the pickled copy has them: {user: [DataFrame of pandas 0.25]}."""
    folder = tmp_path / "res"
    folder.mkdir()
    tables = {}
    for each, samples in experiments.items():
        label = np.full(len(samples), -1)
        for code, first, last in CODES[each]:
            label[first : last + 1] = code
        tables.setdefault(USERS[each], []).append(_frame(samples, label))
    (folder / "HAPT.pkl.gz").write_bytes(gzip.compress(b"\x80\x02" + opcodes(tables) + b"."))
    return folder


@pytest.fixture(name="opcodes")
def _opcodes():
    return opcodes


@pytest.fixture(name="call")
def _call():
    return lambda module, name, *arguments: Made(Global(module, name), arguments)


class Global(NamedTuple):
    module: str
    name: str


class Made(NamedTuple):
    function: Global
    arguments: tuple
    state: object = None


def opcodes(value):
    """``value`` in pickle opcodes, from the format's description in CPython's pickletools."""
    match value:
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Made():
            built = opcodes(value.state) + b"b" if value.state is not None else b""
            return opcodes(value.function) + opcodes(value.arguments) + b"R" + built
        case None:
            return b"N"
        case bool():
            return b"I01\n" if value else b"I00\n"
        case int():
            return f"I{value}\n".encode()
        case str():
            data = value.encode()
            return b"X" + len(data).to_bytes(4, "little") + data
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"(" + b"".join(map(opcodes, value)) + b"l"
        case dict():
            return b"(" + b"".join(opcodes(part) for pair in value.items() for part in pair) + b"d"
    raise TypeError(type(value))


def _array(values, code):
    encoded = Made(Global("_codecs", "encode"), (values.tobytes().decode("latin1"), "latin1"))
    kind = Made(Global("numpy", "dtype"), (code, 0, 1), (3, "<", None, None, None, -1, -1, 0))
    start = (Global("numpy", "ndarray"), (0,), Made(Global("_codecs", "encode"), ("b", "latin1")))
    return Made(Global("numpy.core.multiarray", "_reconstruct"), start, (1, values.shape, kind, False, encoded))


def _index(names):
    array = _array(np.zeros(0), "f8")
    array = array._replace(state=(1, (len(names),), array.state[2], False, list(names)))
    return Made(
        Global("pandas.core.indexes.base", "_new_Index"),
        (Global("pandas.core.indexes.base", "Index"), {"data": array, "name": None}),
    )


def _frame(samples, label):
    names = ["acc-x", "acc-y", "acc-z", "gyro-x", "gyro-y", "gyro-z"]
    whole = np.stack([np.arange(len(label)), label]).astype("<i8")
    blocks = [_array(np.ascontiguousarray(samples.T), "f8"), _array(whole, "i8")]
    items = [_index(names), _index(["sequence", "label"])]
    rows = Made(
        Global("pandas.core.indexes.base", "_new_Index"),
        (Global("pandas.core.indexes.range", "RangeIndex"), {"name": None, "start": 0, "stop": len(label), "step": 1}),
    )
    manager = _bare(
        "pandas.core.internals.managers", "BlockManager", ([_index([*names, "sequence", "label"]), rows], blocks, items)
    )
    return _bare("pandas.core.frame", "DataFrame", {"_data": manager, "_typ": "dataframe"})


def _bare(module, name, state):
    arguments = (Global(module, name), Global("__builtin__", "object"), None)
    return Made(Global("copy_reg", "_reconstructor"), arguments, state)
