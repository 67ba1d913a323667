"""The embedded recordings are whole, the published ones within half a step, and read without unpickling."""

from __future__ import annotations

import lzma
import subprocess
import sys

import numpy as np
import pytest

from jax_prune.datasets import har
from jax_prune.datasets.har import embed_watch, watch
from jax_prune.errors import BadInput


@pytest.fixture(scope="module")
def data():
    return har.load()


def _packed():
    return watch.resources.files("jax_prune.datasets.har").joinpath("watch.xz").read_bytes()


def test_counts(data):
    assert len(data.recordings) == 140 and data.subjects == tuple(range(1, 11))
    pairs = [(each.subject, int(each.activity[0])) for each in data.recordings]
    assert sorted(pairs) == sorted(2 * [(subject, kind) for subject in range(1, 11) for kind in range(7)])
    lengths = [len(each.samples) for each in data.recordings]
    assert (min(lengths), max(lengths), sum(lengths)) == (947, 2_618, 244_102)
    assert all((each.activity == each.activity[0]).all() for each in data.recordings)
    assert data.rate == 50 and len(data.channels) == 6 and data.recordings[0].samples.dtype == np.float32


def test_published_samples_within_half_a_step(data):
    published = [  # the first four samples of seglearn's X[0]: acceleration along x, rotation about x
        (0, [-1.083608, -1.077527, -1.085861, -1.106387], 1 / 8192),
        (3, [0.41141, 0.456227, 0.568556, 0.646172], 1 / 2048),
    ]
    for channel, values, half in published:
        assert np.abs(data.recordings[0].samples[:4, channel] - values).max() <= half * 1.0001


def test_another_decoder_reads_the_same(data):
    raw = lzma.decompress(_packed())
    lengths = [int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i in range(140)]
    total, body = sum(lengths), 840
    for channel, steps in ((0, 4096), (5, 1024)):
        low, high = (raw[body + (2 * channel + part) * total :][:total] for part in (0, 1))
        value, values = 0, []
        for a, b in zip(low[:3000], high[:3000], strict=True):
            value = (value + a + 256 * b + 2**15) % 2**16 - 2**15
            values.append(value / steps)
        mine = np.concatenate([each.samples[:, channel] for each in data.recordings])[:3000]
        np.testing.assert_array_equal(mine, np.float32(values))


def test_packing_what_was_read_gives_the_stream_again(data):
    assert lzma.decompress(embed_watch.packed(data.recordings)) == lzma.decompress(_packed())


def test_size_and_digest(monkeypatch, tmp_path):
    packed = bytearray(_packed())
    assert len(packed) <= 4_000_000
    packed[1_000_000] ^= 1
    (tmp_path / "watch.xz").write_bytes(packed)
    monkeypatch.setattr(watch.resources, "files", lambda package: tmp_path)
    with pytest.raises(BadInput, match="altered; install jax-prune again"):
        har.load()
    (tmp_path / "watch.xz").unlink()
    with pytest.raises(BadInput, match="missing; install jax-prune again"):
        har.load()


def test_the_maker_refuses_other_sources(tmp_path):
    (tmp_path / "watch_dataset.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(BadInput, match="is not seglearn's"):
        embed_watch.embed(tmp_path / "watch_dataset.npy", tmp_path / "out.xz")
    assert not (tmp_path / "out.xz").exists()


def test_nothing_is_unpickled_and_tfds_is_not_imported():
    program = """
import sys
def refuse(*arguments, **options):
    raise AssertionError("unpickled")
from jax_prune.datasets import har
sys.addaudithook(lambda event, arguments: refuse() if event == "pickle.find_class" else None)
windows = har.cut(har.load("watch"), length=128, hop=64)
assert len(windows.y) > 3000 and "tensorflow_datasets" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
