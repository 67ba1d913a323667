"""The study from flags to report: what is written agrees with itself, and the test split is read once, at the end."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jax_prune import datasets, storage
from jax_prune.compress import calibration_sample
from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.plan import SEARCHED, STATIC
from jax_prune.pruning import costs
from jax_prune.pruning.groups import Rule
from jax_prune.stages import stage_key
from jax_prune.studies import layerwise, layerwise_report, layerwise_run
from jax_prune.studies.layerwise import Config
from jax_prune.types import Batch

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run that also notes when the test split was read, and what was on disk then."""
    folder = tmp_path_factory.mktemp("layerwise")
    reads = []
    load = datasets.load

    def watched(name, **options):
        splits = load(name, **options)

        def test():
            reads.append(sorted(path.name for path in folder.rglob("*.safetensors")))
            whole = splits.test()
            return Batch(whole.x[:1000], whole.y[:1000])

        return splits._replace(test=test)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", watched)
        report = layerwise.run(dataclasses.replace(Config.preset().smoke(), compare="lamp", trade_off=2), str(folder))
    return folder, report, reads


def test_the_test_split_is_read_once_and_last(finished):
    folder, _, reads = finished
    assert len(reads) == 1
    assert set(reads[0]) >= {"dense.safetensors", "reference.safetensors", "tuned.safetensors"}
    assert "errors.safetensors" not in reads[0]


def test_a_second_run_reads_nothing_and_says_the_same(finished, monkeypatch):
    folder, report, _ = finished

    def forbidden():
        raise AssertionError("the test split was read again")

    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, **options: load(name, **options)._replace(test=forbidden))
    config = dataclasses.replace(Config.preset().smoke(), compare="lamp", trade_off=2)
    written = {name: (folder / name).read_bytes() for name in ("model.jaxprune", "report.json", "search_history.csv")}
    again = layerwise.run(config, str(folder))
    for name, before in written.items():
        assert (folder / name).read_bytes() == before, name
    assert dataclasses.replace(again, seconds={}) == dataclasses.replace(report, seconds={})


def test_the_report_agrees_with_the_packed_net(finished):
    folder, report, _ = finished
    held = packed.read_packed(folder / "model.jaxprune")
    counted = costs.parameters(held.params, held.masks)
    written = json.loads((folder / "report.json").read_text())
    assert counted.all_kept == written["pruned"]["params"] == sum(layer["kept"] for layer in written["layers"])
    assert counted.weights_kept == written["pruned"]["weights"]
    assert written["compression"]["all"] == counted.all_total / counted.all_kept >= 4
    assert written["compression"]["weights"] == counted.weights_total / counted.weights_kept
    assert written["pruned"]["bytes"] == (folder / "model.jaxprune").stat().st_size
    jax.tree.map(lambda leaf, flag: np.testing.assert_array_equal(leaf[~flag], 0), held.params, held.masks)
    assert report.dense.steps == report.pruned.steps == 2 * 200 + 200  # two teachers, then two rounds of 100


def test_the_fixed_fields_are_there(finished):
    folder, _, _ = finished
    written = json.loads((folder / "report.json").read_text())
    for field in ("study", "dataset", "seed", "versions", "seconds", "dense", "pruned", "compression", "rounds"):
        assert written[field] not in (None, "", {}, []), field
    assert {"name", "size", "kept", "ratio"} <= set(written["layers"][0])
    assert written["search"]["evaluations"] == 18 and len(written["search"]["history"]) == 2
    assert {outcome["allocator"] for outcome in written["baselines"]["outcomes"]} == {"search", "lamp"}
    assert set(written["rounds"][0]["baselines"]) == {"random", "uniform", "erk", "lamp", "global", "score", "greedy"}
    assert "<svg" in (folder / "report.html").read_text() and (folder / "report.md").read_text()


def test_losses_before_tuning_stand_beside_errors_after(finished):
    folder, report, _ = finished
    tuned = report.baselines.tuned
    assert [(entry.allocator, entry.round) for entry in tuned] == [
        (name, number) for name in ("search", "lamp") for number in (1, 2)
    ]
    ours = [(entry.search_loss, entry.validation_error) for entry in report.rounds]
    assert [(entry.loss, entry.error) for entry in tuned[:2]] == ours
    lamp = [storage.load_arrays(folder / f"allocations/lamp/round_{n}/{part}.safetensors")[1]
            for n in (1, 2) for part in ("search", "tuned")]  # fmt: skip
    assert [entry.loss for entry in tuned[2:]] == [facts["losses"]["lamp"] for facts in lamp[::2]]
    assert [entry.error for entry in tuned[2:]] == [1 - facts["validation"] for facts in lamp[1::2]]
    assert report.baselines.correlations == ()  # of two allocations


def test_the_trade_off_is_the_dense_nets(finished):
    folder, report, _ = finished
    found = json.loads((folder / "report.json").read_text())["trade_off"]
    sizes = [layer.size for layer in report.layers]
    assert (found["examples"], found["evaluations"]) == (200, 18) and len(found["points"]) >= 3
    costs_of = np.array([[point[name] for name in ("error", "params", "macs")] for point in found["points"]])
    for point, row in zip(found["points"], costs_of, strict=True):
        assert point["params"] == sum(point["kept"]) and point["macs"] <= point["params"]
        assert point["bytes"] <= 4 * sum(sizes) and all(np.array(point["kept"]) <= sizes)
        assert not ((costs_of <= row).all(1) & (costs_of < row).any(1)).any()
    tried = storage.load_arrays(folder / "trade_off.safetensors")[0]["seen/vectors"]
    assert tried.shape == (3, 6, 3) and (tried[0, 0] == 0).all()  # the dense net itself is the first candidate
    assert found["dense"]["kept"] == sizes and found["dense"]["macs"] == 266_200
    dense = storage.load_arrays(folder / "dense.safetensors")[0]
    count, train = Config.preset().smoke().calibration, datasets.load("mnist").train
    sample = calibration_sample(stage_key(jax.random.key(0), "calibration"), train, count)
    x = np.asarray(sample.x, np.float32).reshape(count, -1) / 255
    for name in ("ip1", "ip2", "ip3"):
        x = x @ dense[f"params/{name}/kernel"] + dense[f"params/{name}/bias"]
        x = x if name == "ip3" else np.maximum(x, 0)
    assert found["dense"]["error"] == pytest.approx((x.argmax(1) != sample.y).mean(), abs=1e-6)
    assert "Trade-off" in (folder / "report.html").read_text()


def test_every_candidate_is_in_the_history(finished):
    folder, _, _ = finished
    lines = (folder / "search_history.csv").read_text().splitlines()
    assert lines[0] == (
        "allocation,round,search,generation,candidate,accepted,value,violation,exact,work,share,"
        "ip1,ip2,ip3,kept/ip1,kept/ip2,kept/ip3"
    )
    assert len(lines) == 1 + 2 * 2 * 18  # the rival of this run, LAMP, searches nothing
    report = json.loads((folder / "report.json").read_text())
    for line in lines[1:]:
        cells = line.split(",")
        assert sum(map(int, cells[-3:])) == report["rounds"][int(cells[1]) - 1]["target"]


def test_rules_read_as_written():
    text = "ip3/kernel:upper=0.8; ip1/.*:frozen ;conv.:group=convs;a:b/k:lower=0.1,upper=0.9"
    assert layerwise_run.parse_rules(text) == (
        Rule("ip3/kernel", upper=0.8),
        Rule("ip1/.*", frozen=True),
        Rule("conv.", group="convs"),
        Rule("a:b/k", lower=0.1, upper=0.9),
    )
    text = "ip1/.*:nm=2:4;a:b/k:nm=n:4,upper=0.5;conv2/kernel:block=4x1,round_to=8; ip./kernel:tied=dense"
    assert layerwise_run.parse_rules(text) == (
        Rule("ip1/.*", nm="2:4"),
        Rule("a:b/k", nm="n:4", upper=0.5),
        Rule("conv2/kernel", block=(4, 1), round_to=8),
        Rule("ip./kernel", tied="dense"),
    )
    assert layerwise_run.parse_rules("") == ()
    for wrong in ("ip1", "ip1:", ":frozen", "ip1:upper=high", "ip1:melted", "ip1:block=4", "ip1:round_to=x", ":nm=2:4"):
        with pytest.raises(BadInput, match="does not read"):
            layerwise_run.parse_rules(wrong)


@pytest.mark.parametrize("net", ["lenet300", "lenet5"])
@pytest.mark.parametrize("preset", ["default", "record", "compare"])
def test_presets_make_plans_that_can_be_done(net, preset):
    from jax_prune import nets
    from jax_prune.plan import checked

    config = Config.preset(net, preset)
    assert config.net == net
    checked(layerwise_run.plan_of(config), nets.build(net))


def test_unknown_presets_are_listed():
    with pytest.raises(BadInput, match="known are default, record, compare"):
        Config.preset("lenet300", "best")


@pytest.mark.parametrize(
    "change",
    [{"shift": -1}, {"seed": -1}, {"seed": 10**20}, {"dense_steps": -5}, {"dense_rate": -1.0}, {"weight_decay": -5.0},
     {"committee": 0}, {"taught_shift": -1}, {"taught_share": 1.5}, {"taught_share": -0.1},
     {"memory": 0.0}, {"trained": True}, {"trade_off": -1}, {"race": "fair"}, {"confidence": 1.0},
     {"fidelity": (0.5,)}, {"fidelity": (0.5, 1.0), "algorithm": "lshade"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(BadInput, match="come trained" if "trained" in change else next(iter(change))):
        layerwise_run.plan_of(dataclasses.replace(Config.preset(), **change))


@pytest.mark.parametrize("net", ["lenet300", "lenet5", "package.module:factory"])
@pytest.mark.parametrize("preset", ["default", "record", "compare"])
def test_the_command_names_the_preset_and_what_differs(net, preset):
    config = dataclasses.replace(Config.preset(net, preset), seed=3)
    command = layerwise_report._command(config)
    assert command == f"jax-prune layerwise --workdir=W --preset={preset} --config.net={net} --config.seed=3"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"taught_shift": 30}, "out of sight"), ({"taught_shift": 11}, "neighbour_weight=0.3 keeps .* MiB")],
)
def test_shifts_too_far_are_refused_before_any_training(tmp_path, change, says):
    with pytest.raises(BadInput, match=says):
        layerwise.run(dataclasses.replace(Config.preset().smoke(), **change), str(tmp_path))
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_choosing_settings_leaves_the_test_split_alone(tmp_path, monkeypatch):
    load = datasets.load

    def forbidden():
        raise AssertionError("the test split was read")

    monkeypatch.setattr(datasets, "load", lambda name, **options: load(name, **options)._replace(test=forbidden))
    report = layerwise.run(dataclasses.replace(Config.preset().smoke(), test=False), str(tmp_path))
    assert report.pruned.error is None and report.dense.error is None
    assert 0 < report.pruned.validation_error < 1
    assert (tmp_path / "report.html").exists() and (tmp_path / "model.jaxprune").exists()


@pytest.mark.slow
def test_races_and_shares_reach_the_report(tmp_path):
    config = dataclasses.replace(
        Config.preset().smoke(), race="paired", confidence=0.5, fidelity=(0.5, 1.0), audit=True, calibration=1250,
        generations=6,
    )  # fmt: skip
    report = layerwise.run(config, str(tmp_path))
    search = report.search
    assert (search.race, search.fidelity, search.evaluations, search.generations) == ("paired", (0.5, 1.0), 48, 6)
    assert all(0 < share < 1 for share in search.work)
    for history in search.history:  # nothing counts before the population is scored on all data
        assert np.isinf(history[:18]).all() and np.isfinite(history[18:]).all()
    assert search.audit.confidence == 0.5 and 0 <= search.audit.differed <= search.audit.dropped
    assert "would have won" in (tmp_path / "report.html").read_text()
    shares = [line.split(",")[10] for line in (tmp_path / "search_history.csv").read_text().splitlines()[1:]]
    assert set(shares) == {"0.6", "1.0"}  # 3 of 5 chunks
    assert "--config.fidelity=0.5,1.0" in report.command


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"race": "paired", "tolerance": 0.01}, "a tolerance counts errors: give race=exact"),
        ({"fidelity": (0.1, 0.12, 1.0)}, "takes 1, 1, 8 of 8 chunks"),
        ({"race": "paired", "calibration": 900}, "look after 4 chunks first, and there are 4"),
    ],
)
def test_searches_that_cannot_be_made_are_refused_before_any_training(tmp_path, change, says):
    with pytest.raises(BadInput, match=says):
        layerwise.run(dataclasses.replace(Config.preset(), **change), str(tmp_path))
    assert not list(tmp_path.glob("**/*.safetensors"))


@pytest.mark.parametrize("allocation", [*SEARCHED, *STATIC])
def test_every_allocation_has_a_name_for_the_reports_title(allocation):
    assert layerwise_report.WAYS[allocation]


@pytest.mark.parametrize(
    ("change", "idle"),
    [
        ({}, {"confidence"}),
        ({"race": "none"}, {"confidence", "audit"}),
        ({"race": "paired"}, set()),
        ({"race": "paired", "algorithm": "evosax:CMA_ES"}, {"race", "confidence", "audit"}),
    ],
)
def test_what_races_do_not_read_is_idle(change, idle):
    assert set(dataclasses.replace(Config.preset(), **change).idle) & {"race", "confidence", "audit"} == idle


def test_a_refused_run_does_not_claim_its_folder(tmp_path):
    smoke = Config.preset().smoke()
    for wrong in ({"compression": 1e9}, {"net": "no_such:net"}, {"dataset": "no_such"}, {"rules": "ip9/.*:frozen"}):
        with pytest.raises(BadInput):
            layerwise.run(dataclasses.replace(smoke, **wrong), str(tmp_path))
    assert not list(tmp_path.iterdir())
