"""The channels study from flags to report: smaller networks meet their target, and agree with what is written."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from jax_prune import cli, counts_search, datasets, learning, narrowing, nets, progress, storage, targets
from jax_prune.errors import BadInput
from jax_prune.pruning import channel_costs, costs
from jax_prune.studies import channels, channels_settings
from jax_prune.studies.channels import PRESETS, Config

WAYS = ("search", "gates", "uniform_score")
TINY = dataclasses.replace(
    Config.preset(preset="compare").smoke(), net="lenet300", macs=0.3, parameters=0.4, compare=",".join(WAYS)
)
WHOLE = 266_200
IMAGE = np.zeros((1, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run of three ways, and how often the test split was read."""
    folder, reads = tmp_path_factory.mktemp("channels"), []
    load = datasets.load

    def watched(*args, **options):
        splits = load(*args, **options)
        return splits._replace(test=lambda: (reads.append(1), splits.test())[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", watched)
        notes = []
        patch.setattr(progress, "note", notes.append)
        report = channels.run(TINY, str(folder))
    return folder, report, reads, notes


def small_net(folder, way):
    """The groups, and the smaller network of a way from its file."""
    path = folder / ("compact.safetensors" if way == TINY.way else f"ways/{way}/compact.safetensors")
    groups = targets.target(nets.build(TINY.net), IMAGE, {"macs": 0.3}).groups
    return groups, storage.load_arrays(path)[1]["kept"], narrowing.load(path)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_meets_the_target_within_one_channel_and_the_bound(finished, way):
    groups, kept, net = small_net(finished[0], way)
    counts = np.array([len(kept[group.name]) for group in groups])
    cost = channel_costs.macs(nets.build(TINY.net), groups, IMAGE)
    spent = sum(costs.macs(net, IMAGE).values())
    assert spent == channel_costs.spent(cost, counts) <= int(TINY.macs * WHOLE)
    for row in counts + np.eye(len(groups), dtype=int):
        assert channel_costs.spent(cost, row) > int(TINY.macs * WHOLE)
    assert costs.parameters(net.params).all_total <= TINY.parameters * (WHOLE + 410)


@pytest.mark.parametrize("way", WAYS)
def test_the_report_says_what_its_network_is(finished, way):
    folder, report, *_ = finished
    groups, kept, net = small_net(folder, way)
    found = {entry.name: entry for entry in report.ways}[way]
    macs = sum(costs.macs(net, IMAGE).values())
    params = costs.parameters(net.params).all_total
    assert (found.network.macs, found.network.params, found.network.steps) == (macs, params, 200)
    assert found.kept == tuple(len(kept[group.name]) for group in groups)
    target, bound = found.spending
    assert (target.cost, target.target, target.spent, target.limit) == ("MACs", True, macs, int(TINY.macs * WHOLE))
    assert (bound.cost, bound.target, bound.spent, bound.whole) == ("parameters", False, params, WHOLE + 410)
    assert found.network.validation_error is not None and found.seconds > 0 and not found.ungated
    assert {entry.name for entry in report.ways} == set(WAYS) and report.ways[0].network == report.pruned


@pytest.mark.parametrize("way", ["search", "gates"])
def test_the_network_on_disk_has_the_error_that_the_report_gives(finished, way):
    folder, report, *_ = finished
    _, _, net = small_net(folder, way)
    test = datasets.load("mnist").test()
    error = 1 - learning.evaluate(net, test, learning.correct)[0]
    reported = {entry.allocator: entry.error for entry in report.baselines.outcomes}
    assert reported[way] == pytest.approx(error, abs=2e-4)
    assert report.pruned.error == reported["search"]


def test_the_report_agrees_with_itself(finished):
    folder, report, reads, _ = finished
    assert reads == [1]
    written = json.loads((folder / "report.json").read_text())
    assert written["pruned"]["macs"] == report.pruned.macs == report.budget.measured <= report.budget.limit
    assert written["dense"]["macs"] == WHOLE and written["dense"]["steps"] == written["pruned"]["steps"] == 200
    assert [layer.kept for layer in report.layers] == list(report.rounds[0].layers_kept)
    assert set(report.pruned.seconds) == {"1", "256"} and min(report.pruned.seconds.values()) > 0
    assert report.search.evaluations == TINY.population * (TINY.generations + 1)
    losses = report.rounds[0]
    assert losses.search_loss <= min(losses.baselines.values()) * (1 + 1e-5)
    rows = (folder / "search_history.csv").read_text().splitlines()
    assert len(rows) == report.search.evaluations + 1
    assert "latency, batch 256" in (folder / "report.html").read_text()
    assert report.command.startswith("jax-prune channels --workdir=W --preset=")


def test_the_report_says_whose_counts_a_search_ended_with(finished):
    folder, report, *_ = finished
    facts = storage.load_arrays(folder / "ways/search/search.safetensors")[1]
    verdict, counts = facts["verdict"], facts["counts"]
    assert tuple(counts[verdict["kept"]]) == report.ways[0].kept and set(counts) == {"search", *counts_search.KNOWN}
    (note,) = (note for note in report.notes if note.startswith("search: "))
    whose = "its own counts" if verdict["kept"] == "search" else f"the counts of {verdict['kept']}"
    assert f"{whose} are kept" in note and f"loses {verdict['losses']['search']:.4g}" in note
    uniform = next(way.kept for way in report.ways if way.name == "uniform_score")
    assert tuple(counts["uniform"]) == uniform
    assert all(own >= TINY.floor * even for own, even in zip(counts["search"], uniform, strict=True))


def test_what_a_search_holds_is_said_once_before_it(finished):
    (line,) = (note for note in finished[3] if note.startswith("memory of a search: data "))
    assert line.endswith("2.1 GB")


def test_evaluate_measures_the_smaller_network(finished, capsys):
    folder, report, *_ = finished
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 0
    text = capsys.readouterr().out
    params, macs = report.pruned.params, report.pruned.macs
    error = f"{100 * report.pruned.error:.2f}%"
    for shown in (f"{WHOLE:>10,} => {macs:>9,}", f"266,610 => {params:>9,}", error, "lenet300 on mnist"):
        assert shown in text


def test_another_study_has_its_own_workdir(finished, capsys):
    assert cli.main(["layerwise", f"--workdir={finished[0]}", "--smoke"]) == 2
    assert "holds a run of 'channels', not 'layerwise'; choose another --workdir" in capsys.readouterr().err


def test_a_finished_run_is_read_and_not_computed_again(finished, monkeypatch):
    folder, report, *_ = finished
    monkeypatch.setattr(learning, "train", lambda *_, **__: pytest.fail("trained again"))
    again = channels.run(TINY, str(folder))
    timed = [
        dataclasses.replace(way, seconds=before.seconds) for way, before in zip(again.ways, report.ways, strict=True)
    ]
    assert dataclasses.replace(again, seconds=report.seconds, ways=tuple(timed)) == report


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"macs": 1e-6}, "cannot be met.*frozen are ip3 .*the network's output"),
        ({"macs": 1.5}, "macs is 1.5: give a share"),
        ({"target": "latency"}, "target is latency, and no share of it is given"),
        ({"target": "bytes"}, "unknown target 'bytes': known are macs, parameters, latency"),
        ({"latency": 0.0}, "latency is 0.0: give a share"),
        ({"latency": 0.5, "latency_batch": 0}, "latency_batch is 0"),
        ({"way": "magic"}, "unknown way 'magic': known are search, gates"),
        ({"compare": "gates,luck"}, "unknown way 'luck'"),
        ({"score": "norm"}, "group ip1 has no norm"),
        ({"score": "luck"}, "unknown score 'luck'"),
        ({"frozen": "nope"}, "frozen 'nope' matches no group; there are ip1, ip2"),
        ({"frozen": "ip[12"}, "is not a regular expression"),
        ({"frozen": "ip.*"}, "no channel may be cut"),
        ({"optimizer": "luck"}, "unknown optimizer"),
        ({"augment": "luck"}, "unknown augmentation"),
        ({"width": 0.0}, "width is 0.0"),
        ({"width": 0.5}, "takes no option 'width'"),
        ({"net": "resnet20"}, "images"),
        ({"round_to": 0}, "round_to is 0"),
        ({"memory": 1e-4}, "calibration data takes .* the memory limit is .*: raise memory"),
        ({"population": 2}, "population is 2"),
        ({"floor": 1.5}, "floor is 1.5: give a share of what the uniform cut leaves a group, 0 to 1"),
        ({"floor": -0.1}, "floor is -0.1"),
        ({"floor": math.nan}, "floor is nan"),
        ({"tune_steps": 150}, "tune_steps is 150: give a multiple of 100"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_training(tmp_path, monkeypatch, change, says):
    monkeypatch.setattr(learning, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BadInput, match=says):
        channels.run(dataclasses.replace(TINY, **change), str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "why"), [("score=l1", "no way of gates ranks by it"), ("floor=0.3", "no way of gates searches")]
)
def test_flags_that_nothing_reads_are_refused(capsys, tmp_path, flag, why):
    flags = ["channels", f"--workdir={tmp_path}", "--config.way=gates", f"--config.{flag}"]
    assert cli.main(flags) == 2
    assert f"{flag} would do nothing, since {why}" in capsys.readouterr().err


@pytest.mark.parametrize("way", narrowing.STATIC)
def test_every_allocation_meets_the_target_within_one_channel(way):
    net = nets.build("lenet300")
    target = targets.target(net, IMAGE, {"macs": 0.3})
    chosen = narrowing.chosen_by(way, net, target)
    cost = target.costs["macs"]
    assert channel_costs.spent(cost, chosen.counts) <= target.budgets["macs"]
    for row in chosen.counts + np.eye(len(target.groups), dtype=int):
        assert channel_costs.spent(cost, row) > target.budgets["macs"]
    assert [len(flag) for flag in chosen.flags] == [300, 100]


@pytest.mark.slow
def test_the_utility_rule_runs_from_flag_to_report(tmp_path):
    config = dataclasses.replace(TINY, way="utility", compare="")
    report = channels.run(config, str(tmp_path))
    assert report.budget.measured <= report.budget.limit and report.search is None
    assert "Dynamic Channel Propagation" in report.title


def test_uniform_by_score_and_uniform_differ_by_the_ranking_alone():
    net = nets.build("lenet300")
    target = targets.target(net, IMAGE, {"macs": 0.3})
    ranking = narrowing.scored(jax.random.key(0), net, target.groups, None, None, "random")
    found, by_size = narrowing.chosen_uniformly(ranking, target), narrowing.chosen_by("uniform", net, target)
    np.testing.assert_array_equal(found.counts, by_size.counts)
    for flag, score in zip(found.flags, ranking, strict=True):
        assert np.asarray(score)[flag].min() >= np.asarray(score)[~flag].max()


def test_kept_channels_are_whole_multiples():
    target = targets.target(nets.build("lenet300"), IMAGE, {"macs": 0.3}, round_to=8)
    counts = narrowing.chosen_by("uniform", nets.build("lenet300"), target).counts
    assert (counts % 8 == 0).all() and (counts > 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_one_that_can_be_run(preset):
    config = Config.preset(preset=preset)
    channels.check(config)
    shapes = jax.eval_shape(lambda: nets.build(config.net, **({} if config.width == 1 else {"width": config.width})))
    assert jax.tree.leaves(shapes.params) and set(config.ways) <= set(channels_settings.WAYS)
