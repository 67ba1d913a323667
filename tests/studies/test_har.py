"""The har study from flags to report: what is written measures as reported, subjects stay apart, bad input is said."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jax_prune import cli, datasets, learning, narrowing, nets, storage
from jax_prune.datasets import har as recordings
from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.pruning import costs
from jax_prune.report import Report
from jax_prune.studies import har, har_measuring, har_report, har_run, har_settings
from jax_prune.studies.har import PRESETS, Config
from jax_prune.studies.har_ladders import Pruned
from jax_prune.studies.har_run import Architecture

TINY = dataclasses.replace(
    Config().smoke(), nets=("gru", "cnn_gru"), weights=(0.5, 0.8), hidden=(0.25, 0.5), at_once=2
)  # fmt: skip
LADDERS = [("weights", 0.5), ("weights", 0.8), ("hidden", 0.25), ("hidden", 0.5)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run, and how often the test subjects' answers were asked for."""
    folder, reads = tmp_path_factory.mktemp("har"), []
    with pytest.MonkeyPatch.context() as patch:
        asked = har_measuring.answers
        patch.setattr(har_measuring, "answers", lambda *given: (reads.append(1), asked(*given))[1])
        report = har.run(TINY, str(folder))
    return folder, report, reads


@pytest.fixture(scope="module")
def fold():
    return har_settings.task_of(TINY).fold()


def test_the_report_reads_back_and_agrees_with_itself(finished):
    folder, report, reads = finished
    found = report.recognition
    assert reads == [1]
    assert Report.from_json(folder / "report.json").recognition == found
    assert {own.name for own in found.networks} == set(TINY.nets)
    best = found.networks[0]
    assert np.mean(best.scored.validation) == max(np.mean(own.scored.validation) for own in found.networks)
    assert report.start.error == pytest.approx(1 - np.mean(best.scored.accuracy))
    for own in (*found.networks, *found.ladders, *found.reference):
        assert len(own.scored.accuracy) == len(own.scored.validation) == TINY.seeds
    confusion = np.asarray(found.confusion)
    assert confusion.sum() == TINY.seeds * found.windows["test"] == TINY.seeds * sum(k.windows for k in found.classes)
    assert np.trace(confusion) / confusion.sum() == pytest.approx(np.mean(best.scored.accuracy))
    recall = np.diag(confusion) / confusion.sum(1)
    np.testing.assert_allclose([own.recall for own in found.classes], recall, atol=1e-9)
    assert [(own.way, own.removed) for own in found.ladders] == LADDERS
    assert [own.steps for own in found.ladders] == [200, 300, 200, 300]
    assert found.reference[0].steps == report.dense.steps == 300 and report.start.steps == 100
    assert found.baseline.params == 30 * 7 + 7 and len(found.baseline.scored.accuracy) == 1
    assert set(found.networks[0].seconds) == {"1", "256", "sample"}


def shown(report):
    """The rungs whose networks are model.jaxprune and compact.safetensors."""
    found = report.recognition
    return [next(own for own in found.ladders if (own.way, own.removed) == entry) for entry in found.shown.items()]


def test_ladders_remove_what_they_say(finished, fold):
    folder, report, _ = finished
    rungs = {(own.way, own.removed): own for own in report.recognition.ladders}
    dense = nets.build(**har_settings.made_of(TINY, rungs["weights", 0.5].net, 0, 6, 7))
    whole = costs.parameters(dense.params)
    biases = whole.all_total - whole.weights_total
    for removed in TINY.weights:
        kept = rungs["weights", removed].params - biases
        assert kept == int(whole.weights_total / (1 / (1 - removed)))
    units, filters = [], []
    for removed in TINY.hidden:
        rung = rungs["hidden", removed]
        small = narrowing.load(folder / "pruned" / f"{rung.net}_hidden_{removed:g}.safetensors")
        module = small.rebuild(small.params, small.state)
        units.append(module.forward.dense_h.kernel[...].shape[0])
        filters.append(module.conv1.kernel[...].shape[2] if module.convolutions else None)
        assert rung.params == costs.parameters(small.params).all_total
        assert rung.macs == sum(costs.macs(small, fold.train.x[:1]).values())
    assert units == [6, 4] and filters in ([6, 4], [None, None])


def test_every_rung_begins_where_the_one_above_ended(finished):
    """Units that went stay away: what the second rung keeps is among what the first one kept."""
    folder, report, _ = finished
    name = report.recognition.ladders[0].net
    kept = [
        storage.load_arrays(folder / "pruned" / f"{name}_hidden_{removed:g}.safetensors")[1]["kept"]
        for removed in TINY.hidden
    ]
    assert kept[0].keys() == kept[1].keys()
    assert all(set(kept[1][group]) < set(kept[0][group]) for group in kept[0])


def test_the_files_of_the_first_seed_measure_as_the_run_did(finished, fold):
    folder, report, _ = finished
    weights, hidden = shown(report)
    held = packed.read_packed(folder / "model.jaxprune")
    net = nets.build(held.spec["net"], **held.spec["options"]).replace(params=held.params, state=held.state)
    for own, rung in ((net, weights), (narrowing.load(folder / "compact.safetensors"), hidden)):
        for part, expected in (("test", rung.scored.accuracy[0]), ("validation", rung.scored.validation[0])):
            windows = getattr(fold, part)
            assert har_measuring.accuracy(own, windows.batch) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(held.meta["scaling"]["mean"], fold.scaling.mean, rtol=1e-6)
    assert held.meta["activities"] == list(fold.train.activities)


def test_what_is_shown_first_is_the_last_rung_within_the_tolerance():
    def rung(way, removed, *validation):
        return Pruned("gru", way, removed, (), (), (), validation)

    trained = {"gru": Architecture("gru", (), (0.90, 0.92))}
    ladder = (rung("weights", 0.5, 0.91, 0.92), rung("weights", 0.8, 0.90, 0.911), rung("weights", 0.9, 0.80, 0.95),
              rung("hidden", 0.5, 0.6, 0.6), rung("hidden", 0.7, 0.7, 0.7))  # fmt: skip
    run = SimpleNamespace(best="gru", trained=trained, ladders={"gru": ladder}, config=Config(tolerance=0.005))
    assert har_report.first_shown(run, "weights").removed == 0.8
    assert har_report.first_shown(run, "hidden").removed == 0.5
    run.config = Config(tolerance=0.1)
    assert har_report.first_shown(run, "weights").removed == 0.9


@pytest.mark.parametrize("name", ["model.jaxprune", "compact.safetensors"])
def test_evaluate_measures_on_the_same_windows(finished, capsys, name):
    folder, report, _ = finished
    rung = shown(report)[name == "compact.safetensors"]
    assert cli.main(["evaluate", f"--model={folder / name}"]) == 0
    text = capsys.readouterr().out
    assert f"{rung.net} on watch" in text and f"{100 * (1 - rung.scored.accuracy[0]):.2f}%" in text


def test_random_windows_stand_beside_the_paper_with_their_caveat(finished):
    (protocol,) = finished[1].recognition.protocols
    assert protocol.name == "random windows" and len(protocol.accuracy) == TINY.seeds
    assert protocol.published == {"complex": 0.9889, "simple": 0.9944, "simple and complex": 0.9878}
    assert "share samples" in protocol.warning
    page = (finished[0] / "report.html").read_text()
    assert "98.89 %" in page and "share samples" in page


def test_a_finished_run_is_read_and_not_computed_again(finished, monkeypatch):
    folder, report, _ = finished
    for name in ("train", "train_seeds"):
        monkeypatch.setattr(learning, name, lambda *_, **__: pytest.fail("trained again"))
    again = har.run(TINY, str(folder))
    assert dataclasses.replace(again, seconds=report.seconds) == report


def test_a_run_that_was_killed_ends_with_the_same_report(finished, tmp_path):
    """As it would be after a kill between any two stages: some finished, the others gone."""
    folder, report, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    name = report.recognition.ladders[0].net
    for stage in ("answers", f"weights/{name}/0.8/seed_1/round_1/tuned", f"hidden/{name}/0.5/seed_0",
                  "random_windows/seed_1"):  # fmt: skip
        (copy / f"{stage}.safetensors").unlink()
    for written in ("report.json", "model.jaxprune", "compact.safetensors"):
        (copy / written).unlink()
    again = har.run(TINY, str(copy))
    assert again.recognition == report.recognition
    assert (copy / "model.jaxprune").read_bytes() == (folder / "model.jaxprune").read_bytes()
    for left, right in zip(*(storage.load_arrays(place / "compact.safetensors")[0].items() for place in (copy, folder)),
                           strict=True):  # fmt: skip
        assert left[0] == right[0]
        np.testing.assert_array_equal(left[1], right[1])


def test_without_the_test_nothing_reads_the_test_subjects(tmp_path, monkeypatch):
    """Noise in their place changes no stage: nothing trains on them, chooses by them or asks them."""
    config = dataclasses.replace(TINY, nets=("gru",), test=False, seeds=1, weights=(), hidden=(0.5,))
    first = har.run(config, str(tmp_path / "a"))
    cut = recordings.Task.windows

    def noisy(task, data_dir=None):
        windows = cut(task, data_dir)
        draws = np.random.default_rng(0).normal(size=windows.x.shape).astype(np.float32)
        tests = np.isin(windows.subjects, config.test_subjects)
        return windows._replace(x=np.where(tests[:, None, None], draws, windows.x))

    monkeypatch.setattr(recordings.Task, "windows", noisy)
    second = har.run(config, str(tmp_path / "b"))
    assert first.recognition.measured_on == "validation subjects 7" and not first.recognition.protocols
    assert first.dense.error is None and first.recognition.networks[0].scored.accuracy == ()
    timeless = [dataclasses.replace(own, seconds={}) for report in (first, second) for own in
                (*report.recognition.networks, *report.recognition.ladders)]  # fmt: skip
    assert timeless[:2] == timeless[2:] and first.recognition.confusion == second.recognition.confusion


def test_without_pruning_there_is_no_ladder(tmp_path):
    config = dataclasses.replace(TINY, nets=("gru",), prune=0, random_windows=False, seeds=1)
    report = har.run(config, str(tmp_path))
    assert not report.recognition.ladders and report.start is None and report.dense == report.pruned
    assert not list(tmp_path.glob("*.jaxprune")) and not list(tmp_path.glob("*/*.safetensors.part"))


@pytest.mark.slow
def test_every_subject_in_turn(tmp_path):
    config = dataclasses.replace(TINY, nets=("gru",), prune=0, random_windows=False, leave_one_out=True, seeds=1)
    (protocol,) = har.run(config, str(tmp_path)).recognition.protocols
    assert len(protocol.accuracy) == 10 and "chosen with subject(s) 7" in protocol.warning
    assert sorted(path.stem for path in (tmp_path / "leave_one_out").glob("*")) == sorted(
        f"subject_{subject}" for subject in range(1, 11)
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": "wtach"}, "unknown dataset 'wtach': known are watch, hapt, utwente"),
        ({"dataset": "hapt", "data_dir": "nowhere"}, "hapt is not in nowhere; run: jax-prune data prepare hapt"),
        ({"scenario": "simple"}, "watch has no scenario 'simple'; choose from all"),
        ({"test_subjects": (8, 11)}, "test subjects 8, 11: name each once"),
        ({"validation_subjects": (8,)}, "subject.s. 8 would validate and test"),
        ({"length": 3000}, "have no window of 3000 samples"),
        ({"nets": ("gru", "rnn")}, "unknown net 'rnn': known are lstm"),
        ({"nets": ("gru", "gru")}, "each once"),
        ({"units": 0}, "units is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"dense_steps": 150}, "dense_steps is 150: give a multiple of 100"),
        ({"prune": 3}, "prune is 3: there are 2 networks"),
        ({"weights": (0.9, 0.5)}, "weights is 0.9,0.5: give rising shares"),
        ({"weights": (0.9999,)}, "budget .* is below one weight"),
        ({"hidden": (1.0,)}, "hidden is 1.0: give rising shares"),
        ({"hidden": (0.99,)}, "hidden=0.99 leaves 0 of 8 units of"),
        ({"hidden": (0.5, 0.51, 0.55, 0.6)}, "hidden=0.55 leaves 3 of 8 units of .*, as many as the rung above"),
        ({"hidden": (0.85, 0.95)}, "hidden=0.85 leaves 1 of 8 .* end the ladder there"),
        ({"filters": 2, "nets": ("cnn_gru", "gru"), "hidden": (0.75,)}, "leaves 0 of 2 units"),
        ({"units": 1, "nets": ("gru",)}, "no unit of a network of single units"),
        ({"weights": (), "hidden": ()}, "give a ladder, or prune=0"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"distillation": 1.5}, "distillation 1.5"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"population": 2}, "population is 2"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_training(tmp_path, monkeypatch, change, says):
    for name in ("train", "train_seeds"):
        monkeypatch.setattr(learning, name, lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BadInput, match=says):
        har.run(dataclasses.replace(TINY, **change), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_flags_that_nothing_reads_are_refused(capsys, tmp_path):
    flags = ["har", f"--workdir={tmp_path}", "--config.nets=gru", "--config.prune=1", "--config.filters=3"]
    assert cli.main(flags) == 2
    assert "filters=3 would do nothing, since no network convolves" in capsys.readouterr().err


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_one_that_can_be_run(preset):
    har.check(Config.preset(preset=preset))


def test_scores_are_those_by_definition():
    draws = np.random.default_rng(0)
    truth, answers = draws.integers(0, 4, 300), draws.integers(-1, 3, 300)  # class 3 is never answered, -1 is no class
    found = har_measuring.scores(truth, answers, 5)
    assert np.isnan([found.precision[4], found.recall[4], found.f1[4]]).all()  # class 4 does not occur
    for k in range(4):
        hit = ((truth == k) & (answers == k)).sum()
        precision = hit / max((answers == k).sum(), 1)
        recall = hit / (truth == k).sum()
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        np.testing.assert_allclose([found.precision[k], found.recall[k], found.f1[k]], [precision, recall, f1])
    assert found.macro_f1 == pytest.approx(found.f1[:4].mean())
    assert found.accuracy == pytest.approx((truth == answers).mean())


def test_a_net_that_is_not_finite_is_wrong():
    net = nets.build("gru", units=3, features=6, num_classes=7)
    batch = recordings.cut(recordings.load("watch"), length=64, hop=640).batch
    broken = net.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, net.params))
    assert set(har_measuring.answered(broken, batch).tolist()) == {-1}
    assert har_measuring.accuracy(broken, batch) == 0


def test_the_report_of_a_run_is_whole(finished):
    folder, report, _ = finished
    written = json.loads((folder / "report.json").read_text())
    assert written["study"] == "har" and written["recognition"]["measured_on"] == "test subjects 8, 9, 10"
    assert report.command.startswith("jax-prune har --workdir=W --preset=default")
    for name in ("gru", "cnn_gru", "ROW", "hidden units"):
        assert name in (folder / "report.html").read_text()


def test_twentes_preset_finds_every_activity_in_every_part(tmp_path):
    """Thirteen blocks in the published format, small: six of ten participants showed all."""
    pytest.importorskip("array_record")
    draws, lengths = np.random.default_rng(0), {code: 200 for code in range(11111, 11124)}
    codes = np.repeat(list(lengths), list(lengths.values()))
    stamps = 1_400_000_000_000 + 20 * np.arange(len(codes))
    lines = [
        ",".join(map(str, [stamp, *np.round(draws.normal(size=12), 5), code]))
        for stamp, code in zip(stamps, codes, strict=True)
    ]
    (tmp_path / "smartphoneatwrist.csv").write_text("\n".join(lines) + "\n")
    datasets.prepare("utwente", tmp_path, tmp_path / "data")
    config = dataclasses.replace(Config.preset(preset="utwente"), data_dir=str(tmp_path / "data"), length=10, hop=5,
                                 nets=("gru",), units=4, weights=(), hidden=(0.5,), prune=1)  # fmt: skip
    _, fold = har_run.examined(config)
    for part in (fold.train, fold.validation, fold.test):
        assert set(part.y.tolist()) == set(range(13))
    assert fold.train.x.shape[1:] == (10, 12)
