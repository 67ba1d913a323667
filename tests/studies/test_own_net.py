"""The study on a user's own net, trained already, by package.module:factory: rules, tolerance, what is left out."""

import dataclasses
import json
import shlex

import jax
import numpy as np
import pytest

from jax_prune import cli, datasets
from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.pruning import costs
from jax_prune.studies import layerwise
from jax_prune.studies.layerwise import Config
from jax_prune.types import Batch

FACTORY = """
import jax
import jax.numpy as jnp
from flax import nnx
from jax_prune import datasets, learning, nets

class Small(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(784, 16, rngs=rngs)
        self.last = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x.reshape(len(x), -1) / 255.0)))

class Narrow(Small):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.first = nnx.Linear(100, 16, rngs=rngs)

def narrow():
    return Narrow(nnx.Rngs(0))

class Undefined(Small):
    # NaN wherever anything is pruned
    def __call__(self, x):
        whole = (self.first.kernel[...] != 0).all() & (self.last.kernel[...] != 0).all()
        return jnp.where(whole, super().__call__(x), jnp.nan)

def undefined():
    return Undefined(nnx.Rngs(0))

TRAINED = []

def make():
    if not TRAINED:
        train = jax.device_put(datasets.load("mnist").train)
        TRAINED.append(learning.train(
            jax.random.key(0), nets.from_nnx(Small(nnx.Rngs(0))), train, learning.Recipe(learning_rate=1e-2),
            loss=learning.cross_entropy, steps=300,
        ).net)
    return TRAINED[0]
"""
OWN = dataclasses.replace(
    Config().smoke(), net="small_own_net:make", trained=True, seed=3, round_steps=200, final_steps=200
)


@pytest.fixture(scope="module")
def small_mnist():
    """A slice of MNIST in the place of the whole, and the user's module where Python finds it."""
    whole = datasets.load("mnist")

    def first(batch, examples):
        return Batch(batch.x[:examples], batch.y[:examples])

    test = first(whole.test(), 500)
    few = whole._replace(train=first(whole.train, 3000), validation=first(whole.validation, 500), test=lambda: test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name, **options: few)
        yield few


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_mnist):
    folder = tmp_path_factory.mktemp("own")
    (folder / "small_own_net.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def ruled(place):
    rules = "last/.*:frozen;first/kernel:upper=0.9"
    report = layerwise.run(dataclasses.replace(OWN, rules=rules, compression=3.0), str(place / "ruled"))
    return report, json.loads((place / "ruled" / "report.json").read_text()), place / "ruled"


def test_dense_training_is_skipped(ruled):
    report, written, folder = ruled
    assert not list(folder.glob("dense*")) and not list(folder.glob("reference*"))
    assert report.start is None and not written["dense"]["steps"]
    assert written["pruned"]["steps"] == 400  # two rounds of tuning
    assert written["dense"]["error"] < 0.3


def test_rules_reach_the_report_and_the_packed_net(ruled):
    report, written, folder = ruled
    assert [(layer["name"], layer["size"]) for layer in written["layers"]] == [("first", 784 * 16 + 16)]
    (layer,) = written["layers"]
    assert layer["kept"] == layer["size"] // 3
    assert layer["ratio"] == pytest.approx(1 - layer["kept"] / layer["size"])
    held = packed.read_packed(folder / "model.jaxprune")
    assert np.asarray(held.masks["last"]["kernel"]).all()
    assert "--config.rules=last/.*:frozen;first/kernel:upper=0.9" in shlex.split(report.command)
    counted = costs.parameters(held.params, held.masks)
    assert counted.all_kept == written["pruned"]["params"] == layer["kept"] + 170
    assert written["compression"]["all"] == counted.all_total / counted.all_kept
    # a dense layer has one product an example for each kept weight
    assert written["pruned"]["macs"] == counted.weights_kept
    assert written["dense"]["macs"] == counted.weights_total == 784 * 16 + 160


def test_errors_are_those_of_the_net_in_the_file(ruled, small_mnist):
    _, written, folder = ruled
    held = packed.read_packed(folder / "model.jaxprune")
    for split, name in ((small_mnist.test(), "error"), (small_mnist.validation, "validation_error")):
        x = np.asarray(split.x, np.float32).reshape(len(split.x), -1) / 255
        first, last = held.params["first"], held.params["last"]
        outputs = np.maximum(x @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
        assert written["pruned"][name] == pytest.approx((outputs.argmax(1) != split.y).mean(), abs=0.003)


@pytest.mark.slow
def test_the_tolerance_question_is_answered_and_written(place):
    config = dataclasses.replace(OWN, tolerance=0.02, compression=1.0, generations=5)
    report = layerwise.run(config, str(place / "tolerant"))
    written = json.loads((place / "tolerant" / "report.json").read_text())
    assert written["search"]["objective"] == "kept fraction"
    assert written["rounds"][0]["target"] is None
    kept = [entry["kept"] for entry in written["rounds"]]
    assert kept[1] <= kept[0] < sum(layer["size"] for layer in written["layers"])
    assert kept[-1] == written["pruned"]["params"] == sum(layer["kept"] for layer in written["layers"])
    for history in written["search"]["history"]:
        seen = [value for value in history if value is not None]
        assert seen and seen == sorted(seen, reverse=True)
    again = layerwise.run(config, str(place / "tolerant"))
    assert dataclasses.replace(again, seconds={}) == dataclasses.replace(report, seconds={})


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["bytes", "macs"])
def test_a_limit_is_kept_and_written(place, unit):
    limit = 9000 if unit == "bytes" else 2500
    config = dataclasses.replace(OWN, **{f"max_{unit}": limit})
    report = layerwise.run(config, str(place / unit))
    written = json.loads((place / unit / "report.json").read_text())
    assert written["budget"]["limit"] == limit and written["budget"]["unit"].lower() == unit
    assert written["budget"]["measured"] <= written["budget"]["reached"] <= limit
    assert written["budget"]["reached"] > limit - 7
    assert written["rounds"][0]["limit"] > written["rounds"][1]["limit"] == limit
    assert [entry["spent"] <= entry["limit"] for entry in written["rounds"]] == [True, True]
    held = packed.read_packed(place / unit / "model.jaxprune")
    counted = costs.parameters(held.params, held.masks)
    if unit == "bytes":
        assert written["budget"]["measured"] == costs.packed_total(held.params, held.masks)
    else:  # a dense layer has one product an example for each kept weight
        assert written["budget"]["measured"] == written["pruned"]["macs"] == counted.weights_kept
    assert f"--config.max_{unit}={limit}" in shlex.split(report.command)
    assert f"{limit:,} {written['budget']['unit']}" in (place / unit / "report.md").read_text()


@pytest.mark.slow
def test_the_same_seed_is_the_same_run_and_another_is_not(place, ruled):
    report, _, folder = ruled
    rules = "last/.*:frozen;first/kernel:upper=0.9"
    config = dataclasses.replace(OWN, rules=rules, compression=3.0)
    again = layerwise.run(config, str(place / "again"))
    assert dataclasses.replace(again, seconds={}) == dataclasses.replace(report, seconds={})
    assert (place / "again" / "model.jaxprune").read_bytes() == (folder / "model.jaxprune").read_bytes()
    layerwise.run(dataclasses.replace(config, seed=4), str(place / "other"))
    held, other = (packed.read_packed(path / "model.jaxprune").masks for path in (folder, place / "other"))
    assert not np.array_equal(held["first"]["kernel"], other["first"]["kernel"])
    assert jax.tree.structure(held) == jax.tree.structure(other)


def test_an_unknown_rival_is_refused_before_anything_is_computed(place):
    with pytest.raises(BadInput, match="luck"):
        layerwise.run(dataclasses.replace(OWN, compare="lamp,luck"), str(place / "rival"))
    assert not list((place / "rival").rglob("*.safetensors"))


def test_a_net_that_does_not_take_the_images_is_one_line(place):
    config = dataclasses.replace(OWN, net="small_own_net:narrow", trained=False, dense_steps=100)
    with pytest.raises(BadInput):
        layerwise.run(config, str(place / "narrow"))


@pytest.mark.slow
def test_patterns_hold_from_flag_to_packed_net(place):
    rules = "first/kernel:nm=2:4;last/kernel:round_to=8"
    config = dataclasses.replace(OWN, rules=rules, compression=2.0)
    report = layerwise.run(config, str(place / "patterned"))
    held = packed.read_packed(place / "patterned" / "model.jaxprune")
    assert (np.asarray(held.masks["first"]["kernel"]).reshape(196, 4, 16).sum(1) == 2).all()
    assert np.asarray(held.masks["first"]["bias"]).all()
    first, last = report.layers
    assert (first.kept, last.kept) == (784 * 8, 80) and last.size == 170
    assert sum(entry.kept for entry in report.layers) <= report.rounds[-1].target == (784 * 16 + 170) // 2


@pytest.mark.slow
def test_tied_layers_lose_the_same_share(place):
    config = dataclasses.replace(OWN, rules=".*kernel:tied=both", max_bytes=9000)
    report = layerwise.run(config, str(place / "tied"))
    first, last = report.layers
    assert last.ratio == pytest.approx(first.ratio, abs=1 / last.size)
    assert report.budget.measured <= report.budget.reached <= 9000
    head = (place / "tied" / "search_history.csv").read_text().splitlines()[0]
    assert head.endswith(",both,kept/first,kept/last")


@pytest.mark.slow
def test_a_tolerance_that_no_candidate_meets_is_said(place, capsys):
    config = dataclasses.replace(OWN, tolerance=0.0, rules=".*kernel:lower=0.99", rounds=1)
    report = layerwise.run(config, str(place / "missed"))
    said = capsys.readouterr().err
    assert "round 1: no candidate stays within the tolerance of 0" in said
    written = json.loads((place / "missed" / "report.json").read_text())
    assert 0 < written["rounds"][0]["missed"] == report.rounds[0].missed
    assert "No candidate met the tolerance in round 1" in (place / "missed" / "report.md").read_text()


def test_a_net_that_is_nan_where_pruned_ends_with_status_2_and_the_generation(place, capsys):
    flags = [f"--config.{name}={value}" for name, value in {"at_once": 1, "trained": True, "rounds": 1}.items()]
    net = "--config.net=small_own_net:undefined"
    assert cli.main(["layerwise", f"--workdir={place / 'undefined'}", net, "--smoke", *flags]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("jax-prune: error: fitness is NaN or infinite for all candidates of generation 0")
