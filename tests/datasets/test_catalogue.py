"""Names: known, close, absent, damaged; and sets that tfds wrote with its own means."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jax_prune import datasets
from jax_prune.errors import BadInput

pytest.importorskip("array_record")
tfds = pytest.importorskip("tensorflow_datasets")


def _refused(match, name, **options):
    with pytest.raises(BadInput, match=match) as caught:
        datasets.load(name, **options)
    assert "\n" not in str(caught.value)


def test_absent_and_unknown_names_say_what_to_do(tmp_path):
    command = f"jax-prune data prepare cifar10 --from DIR --data_dir {tmp_path}"
    _refused(command, "cifar10", data_dir=tmp_path)
    _refused("leave data_dir out: mnist is embedded", "mnist", data_dir=tmp_path)
    _refused("tfds build cifar100 --file_format=array_record", "cifar100", data_dir=tmp_path)
    _refused("did you mean mnist", "mnits", data_dir=tmp_path)
    _refused("did you mean fashion_mnist", "fashion-mnist", data_dir=tmp_path)
    for odd in ("no such/thing!", "", "../etc", "a:b:c"):
        _refused("unknown data set", odd, data_dir=tmp_path)


def _build(tmp_path, counts, features, example, keys=("image", "label"), name="TinySet"):
    def generate(count):
        yield from ((index, example(index)) for index in range(count))

    body = {
        "VERSION": tfds.core.Version("1.0.0"),
        "code_path": None,
        "pkg_dir_path": None,
        "_info": lambda self: tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys),
        "_split_generators": lambda self, manager: {split: generate(n) for split, n in counts.items()},
        "_generate_examples": lambda self: None,
    }
    with tfds.core.registered.skip_registration():
        kind = type(name, (tfds.core.GeneratorBasedBuilder,), body)
    builder = kind(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    return builder.data_dir


def _vectors():
    return _features((3,)), lambda i: {"image": np.full(3, i, np.float32), "label": i % 4}


def _features(shape):
    image = tfds.features.Tensor(shape=shape, dtype=np.float32)
    return tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=4)})


def test_reads_any_set_on_disk_and_its_official_validation_split(tmp_path):
    _build(tmp_path, {"train": 20, "validation": 6, "test": 5}, *_vectors())
    splits = datasets.load("tiny_set", data_dir=tmp_path)
    assert [len(part.y) for part in (splits.train, splits.validation, splits.test())] == [20, 6, 5]
    np.testing.assert_array_equal(np.sort(splits.train.x[:, 0]), np.arange(20))
    np.testing.assert_array_equal(splits.train.y, splits.train.x[:, 0].astype(int) % 4)
    assert splits.classes == 4 and splits.train.y.dtype == np.int32
    assert len(datasets.load("tiny_set:1.0.0", data_dir=tmp_path).train.y) == 20


def test_validation_serves_as_test_where_there_is_none(tmp_path):
    _build(tmp_path, {"train": 20, "validation": 6}, *_vectors())
    splits = datasets.load("tiny_set", data_dir=tmp_path)
    assert [len(part.y) for part in (splits.train, splits.validation, splits.test())] == [18, 2, 6]


def test_sets_that_cannot_serve(tmp_path):
    features, example = _vectors()
    _build(tmp_path / "a", {"train": 20}, features, example)
    _refused(r"splits \['train'\]", "tiny_set", data_dir=tmp_path / "a")
    _build(tmp_path / "b", {"train": 20, "test": 2}, features, example, keys=None)
    _refused(r"no \(input, target\) pair", "tiny_set", data_dir=tmp_path / "b")
    counts = {"train": 20, "test": 2}
    _build(tmp_path / "c", counts, features, lambda i: {"image": np.full(3, np.nan, "f"), "label": 0})
    _refused("tiny_set train: x has 60 NaN", "tiny_set", data_dir=tmp_path / "c")
    _build(tmp_path / "d", counts, _features((None,)), lambda i: {"image": np.ones(i + 1, "f"), "label": 0})
    _refused("has examples of shapes", "tiny_set", data_dir=tmp_path / "d")


def test_damaged_sets(tmp_path):
    folder = _build(tmp_path, {"train": 20, "test": 2}, *_vectors())
    shard = next(path for path in tmp_path.glob("tiny_set/1.0.0/*train.array_record*"))
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    _refused(f"{folder} cannot be read .*prepare it again", "tiny_set", data_dir=tmp_path)
    shard.unlink()
    _refused("cannot be read", "tiny_set", data_dir=tmp_path)
    info = tmp_path / "tiny_set/1.0.0/dataset_info.json"
    fields = json.loads(info.read_text())
    info.write_text(json.dumps({**fields, "fileFormat": "tfrecord"}))
    _refused("not in array_record format", "tiny_set", data_dir=tmp_path)
    info.write_text(info.read_text()[:50])
    _refused("cannot be read", "tiny_set", data_dir=tmp_path)
