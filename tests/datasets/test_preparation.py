"""Raw files become official TFDS sets, whole or not at all, and read back without TensorFlow."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jax_prune import datasets
from jax_prune.datasets import tfds_files
from jax_prune.errors import BadInput

pytest.importorskip("array_record")
pytest.importorskip("PIL")


def _sorted_rows(images, labels):
    rows = np.concatenate([np.reshape(labels, (-1, 1)), images.reshape(len(images), -1)], axis=1)
    return rows[np.lexsort(rows.T[::-1])]


def _same_examples(splits, raw):
    x, y = (np.concatenate(parts) for parts in zip(splits.train, splits.validation, strict=True))
    np.testing.assert_array_equal(_sorted_rows(x, y), _sorted_rows(*raw["train"]))
    np.testing.assert_array_equal(_sorted_rows(*splits.test()), _sorted_rows(*raw["test"]))


def _refused(match, *arguments, **options):
    with pytest.raises(BadInput, match=match) as caught:
        datasets.prepare(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "version"), [("mnist", "3.0.1"), ("fashion_mnist", "3.0.1")])
def test_idx_files(name, version, idx_folder, digits, tmp_path):
    out = tmp_path / "out"
    assert datasets.prepare(name, idx_folder, out, verify=False) == out / name / version
    splits = datasets.load(name, data_dir=out)
    assert splits.train.x.shape == (27, 28, 28, 1) and splits.validation.x.shape == (3, 28, 28, 1)
    assert splits.train.x.dtype == np.uint8 and splits.train.y.dtype == np.int32 and splits.classes == 10
    _same_examples(splits, digits)
    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.parametrize("form", ["strip_folder", "binary_folder"])
def test_cifar10(form, pictures, tmp_path, request):
    out = tmp_path / "out"
    folder = datasets.prepare("cifar10", request.getfixturevalue(form), out, verify=False)
    splits = datasets.load("cifar10", data_dir=out)
    assert splits.train.x.shape == (27, 32, 32, 3)
    _same_examples(splits, pictures)
    assert (folder / "label.labels.txt").read_text().split()[:3] == ["airplane", "automobile", "bird"]


def test_both_forms_give_the_same_order(strip_folder, binary_folder, tmp_path):
    for form, folder in (("a", strip_folder), ("b", binary_folder)):
        datasets.prepare("cifar10", folder, tmp_path / form, verify=False)
    a, b = (datasets.load("cifar10", data_dir=tmp_path / form).train for form in "ab")
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)


def test_again_leaves_the_set_and_needs_no_source(idx_folder, tmp_path):
    first = datasets.prepare("mnist", idx_folder, tmp_path, verify=False)
    times = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    shutil.rmtree(idx_folder)
    assert datasets.prepare("mnist", idx_folder, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in first.iterdir()}


def test_what_a_killed_run_left_is_no_set_and_is_cleared(idx_folder, digits, tmp_path):
    out = tmp_path / "out"
    whole = datasets.prepare("mnist", idx_folder, tmp_path / "whole", verify=False)
    shutil.copytree(whole, out / ".mnist.partial/mnist/3.0.1")
    with pytest.raises(BadInput, match="is not in"):
        datasets.load("mnist", data_dir=out)
    datasets.prepare("mnist", idx_folder, out, verify=False)
    _same_examples(datasets.load("mnist", data_dir=out), digits)
    assert [path.name for path in out.iterdir()] == ["mnist"]


def test_a_full_disk_leaves_nothing(idx_folder, tmp_path, monkeypatch):
    def full(name, splits, stage):
        stage.mkdir()
        (stage / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfds_files, "write", full)
    _refused("cannot write mnist to .*No space left", "mnist", idx_folder, tmp_path / "out", verify=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_one_run_at_a_time(idx_folder, tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    _refused("another run is preparing", "mnist", idx_folder, tmp_path, verify=False)
    os.close(handle)
    datasets.prepare("mnist", idx_folder, tmp_path, verify=False)


def test_unpublished_data_is_refused_unless_admitted(idx_folder, strip_folder, tmp_path):
    _refused("has 30 images, published are 60,000", "mnist", idx_folder, tmp_path / "out")
    _refused("has 30 images, published are 50,000", "cifar10", strip_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_digests_tell_sets_apart(tmp_path, write_idx):
    mnist = datasets.load("mnist")
    x, y = (np.concatenate(parts) for parts in zip(mnist.train, mnist.validation, strict=True))
    for prefix, images, labels in (("train", x, y), ("t10k", *mnist.test())):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images[..., 0])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))
    _refused("these are the files of mnist", "fashion_mnist", tmp_path, tmp_path / "out")
    y = y.astype(np.uint8)
    y[7] = (y[7] + 1) % 10
    write_idx(tmp_path / "train-labels-idx1-ubyte", y)
    _refused("not the published data.*fetch the files again", "mnist", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_and_folders(idx_folder, tmp_path):
    _refused("did you mean cifar10", "cifar-10", idx_folder, tmp_path)
    _refused("choose mnist, fashion_mnist, cifar10", "zebra", idx_folder, tmp_path)
    _refused("is not a folder", "mnist", tmp_path / "nowhere", tmp_path / "out")
    _refused("it is in .*idx: pass that folder", "mnist", tmp_path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    _refused("has no train-images", "mnist", tmp_path / "empty", tmp_path / "out")
    file = tmp_path / "file"
    file.write_text("")
    _refused("cannot write to", "mnist", idx_folder, file / "out", verify=False)


def test_torn_idx_files(idx_folder, tmp_path):
    plain, packed = idx_folder / "train-images-idx3-ubyte", idx_folder / "t10k-images-idx3-ubyte.gz"
    whole = plain.read_bytes()
    plain.write_bytes(whole[:-1])
    _refused("train-images.* has 23535 bytes where its header promises 23536", "mnist", idx_folder, tmp_path)
    plain.write_bytes(b"PK" + whole)
    _refused("not an IDX file", "mnist", idx_folder, tmp_path)
    plain.write_bytes(whole)
    packed.write_bytes(packed.read_bytes()[:-40])
    _refused("t10k-images.* torn or not gzip", "mnist", idx_folder, tmp_path)
    packed.unlink()
    _refused("has no t10k-images-idx3-ubyte", "mnist", idx_folder, tmp_path)


def test_torn_cifar10_files(strip_folder, binary_folder, tmp_path):
    out = tmp_path / "out"
    strip = strip_folder / "data_batch_3.png"
    whole = strip.read_bytes()
    strip.write_bytes(whole[: len(whole) // 2])
    _refused("data_batch_3.png is torn", "cifar10", strip_folder, out)
    strip.unlink()
    _refused("24 train images but 30 labels", "cifar10", strip_folder, out)
    strip.write_bytes(whole)
    (strip_folder / "test_lables.json").write_text("[1, 2, 12]")
    _refused("labels 0 to 9", "cifar10", strip_folder, out)
    (strip_folder / "test_lables.json").unlink()
    _refused("has no test_lables.json", "cifar10", strip_folder, out)
    batch = binary_folder / "data_batch_2.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1])
    _refused("data_batch_2.bin has 18437 bytes, not a multiple of 3073", "cifar10", binary_folder, out)
    batch.write_bytes(b"\x0b" + whole[1:])
    _refused("has label 11", "cifar10", binary_folder, out)


def test_the_pickled_version_is_not_read(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}.")
    _refused("pickled.*not read.*cifar-10-binary", "cifar10", tmp_path, tmp_path / "out")


def test_no_tensorflow_and_no_tfds_at_import(idx_folder, tmp_path):
    program = f"""
import sys
from jax_prune import datasets
datasets.load("mnist")
assert "tensorflow_datasets" not in sys.modules
datasets.prepare("mnist", {str(idx_folder)!r}, {str(tmp_path)!r}, verify=False)
datasets.load("mnist", data_dir={str(tmp_path)!r}).test()
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
