"""The command line answers at once, in one line where something is wrong, and lets go of nothing."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jax_prune import cli
from jax_prune.errors import BadInput
from jax_prune.studies import STUDIES, layerwise


def fails(capsys, *argv, status=2):
    """The one line on stderr of a call that must fail."""
    assert cli.main([str(part) for part in argv]) == status
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("jax-prune: ")
    return lines[0]


def test_list_help_and_misspelt_studies_answer_without_jax():
    code = (
        "import sys\nfrom jax_prune import cli\n"
        "assert cli.main(['list']) == 0 and cli.main(['--help']) == 0 and cli.main(['layerwize']) == 2\n"
        "assert cli.main(['layerwise', '--help']) == 0\n"
        "assert 'jax' not in sys.modules and 'flax' not in sys.modules\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "did you mean layerwise?" in done.stderr
    assert time.perf_counter() - start < 10  # it is 0.2 s; a loaded machine may be slow, an import of jax slower


def test_help_names_every_field_with_its_default(capsys):
    from jax_prune.studies.layerwise import Config

    assert cli.main(["layerwise", "--help"]) == 0
    text = capsys.readouterr().out
    for field in Config.__dataclass_fields__:
        assert f"--config.{field}" in text
    assert "(default: 40.0)" in text and "--smoke" in text


def test_list_names_the_studies(capsys):
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(STUDIES)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["layerwise"], "--workdir is missing"),
        (["layerwise", "--workdir=W", "--config.nett=x"], "did you mean --config.net?"),
        (["layerwise", "--workdir=W", "--config.rounds=many"], "rounds"),
        (["layerwise", "--workdir=W", "extra"], "takes flags only"),
        (["layerwise", "--workdir=W", "--preset=best"], "known are default, record, compare"),
        (["nonsense"], "unknown command"),
        (["compare", "--workdir=A"], "two different runs or more"),
        (["evaluate"], "--workdir is missing"),
        (["evaluate", "--model=absent.jaxprune"], "cannot read absent.jaxprune"),
        (["report", "--workdir=absent"], "absent"),
        (["data", "prepare", "--from=A", "--data_dir=B"], "one name"),
        (["data", "prepare", "mnist"], "--from is missing"),
    ],
)
def test_bad_calls_say_what_to_do(capsys, tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, *argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--config.net=lenet6", "did you mean lenet"),
        ("--config.net=no.such:thing", "no.such:thing"),
        ("--config.dataset=mnits", "mnist"),
        ("--config.dataset=fashion_mnist", "jax-prune data prepare fashion_mnist"),
        ("--config.compression=0.5", "factor of 1 or more"),
        ("--config.compression=1e9", "below one weight"),
        ("--config.rules=ip9/.*:frozen", "matches no parameter"),
        ("--config.rules=ip1/.*:upper=2", r"[0, 1]"),
        ("--config.rules=ip1/.*:loose", "does not read"),
        ("--config.score=luck", "unknown score 'luck'"),
        ("--config.allocation=luck", "unknown allocation 'luck'"),
        ("--config.recovery=luck", "unknown recovery 'luck'"),
        ("--config.optimizer=luck", "unknown optimizer 'luck'"),
        ("--config.algorithm=rand2bin", "rand1bin"),
        ("--config.population=2", "population is 2"),
        ("--config.distillation=0.5", "taught_shift=1 would show"),
    ],
)
def test_bad_settings_fail_before_any_training(capsys, tmp_path, flag, says):
    line = fails(
        capsys,
        "layerwise",
        f"--workdir={tmp_path / 'w'}",
        f"--config.data_dir={tmp_path}" if "fashion" in flag else "--config.seed=0",
        flag,
    )
    assert says in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config.max_bytes=9000", "--config.compression=5"], "compression=5.0 would do nothing, since max_bytes"),
        (["--config.max_macs=9000", "--config.compression=5"], "since max_macs is what is asked"),
        (["--config.tolerance=0", "--config.compression=5", "--smoke"], "since tolerance is what is asked"),
        (["--config.distillation=0", "--config.temperature=2"], "temperature=2.0 would do nothing, since distillation"),
        (["--config.distillation=0", "--config.neighbour_weight=0.3"], "neighbour_weight=0.3 would do nothing"),
        (["--config.taught_shift=0", "--config.neighbour_weight=0.3"], "since no image is shifted"),
        (["--config.recovery=none", "--config.recovery_rate=0.1"], "since recovery is none"),
        (["--config.net=a.b:c", "--config.trained", "--config.dense_steps=100"], "since the net comes trained"),
    ],
)
def test_flags_that_would_lose_silently_are_refused(capsys, tmp_path, arguments, says):
    assert says in fails(capsys, "layerwise", f"--workdir={tmp_path / 'w'}", *arguments)
    assert not (tmp_path / "w").exists()


def test_every_flag_goes_over_smoke(tmp_path):
    base = layerwise.Config.preset("lenet5", "compare")
    smoke = base.smoke()
    changed = [name for name, value in dataclasses.asdict(smoke).items() if getattr(base, name) != value]
    given = {name: 7 * getattr(base, name) + 1 for name in changed}
    arguments = [f"--config.{name}={value}" for name, value in given.items()]
    flags = ["--config.net=lenet5", "--preset=compare", "--smoke", f"--workdir={tmp_path}"]
    config, _ = cli.configured("layerwise", [*flags, *arguments])
    assert {name: getattr(config, name) for name in changed} == given and len(changed) > 5
    assert config.compare == base.compare  # what the preset is there for


@pytest.mark.parametrize(
    "change",
    [{}, {"max_bytes": 9000}, {"tolerance": 0.01}, {"distillation": 0.0, "taught_shift": 0}, {"recovery": "none"},
     {"net": "a.b:c", "trained": True}, {"test": False, "rules": "ip1/.*:frozen; ip2/.*:upper=0.9"}],
)  # fmt: skip
@pytest.mark.parametrize("preset", ["default", "compare"])
def test_the_command_of_a_report_is_taken_and_asks_the_same(change, preset):
    from jax_prune.studies import layerwise_report

    net = change.get("net", "lenet300")
    config = dataclasses.replace(layerwise.Config.preset(net, preset), compression=7.0, seed=3, **change)
    arguments = shlex.split(layerwise_report._command(config))[2:]
    read, _ = cli.configured("layerwise", arguments)
    idle = config.idle
    assert read.idle == idle
    for name, value in dataclasses.asdict(config).items():
        assert name in idle or getattr(read, name) == value, name


@pytest.mark.parametrize("smoke", [[], ["--smoke"]])
def test_flags_go_over_preset_and_smoke(monkeypatch, capsys, tmp_path, smoke):
    from jax_prune.studies import layerwise

    seen = []
    monkeypatch.setattr(layerwise, "run", lambda config, workdir: seen.append(config) or fails_here())
    line = fails(capsys, "layerwise", f"--workdir={tmp_path}", "--config.rounds=5", "--config.net=lenet5", *smoke)
    assert "stop" in line and (seen[0].rounds, seen[0].net) == (5, "lenet5")
    base = layerwise.Config.preset("lenet5")
    assert seen[0].generations == (base.smoke() if smoke else base).generations


def fails_here():
    raise BadInput("stop")


def test_the_script_finds_the_package_and_not_itself():
    script = Path(__file__).parents[1] / "binaries" / "jax_prune.py"
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run([sys.executable, script, "list"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "layerwise" in done.stdout, done.stderr


def test_a_workdir_of_another_config_is_kept(capsys, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"seed": 7}))
    assert "holds a run with" in fails(capsys, "layerwise", f"--workdir={tmp_path}", "--smoke")
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_no_permission_to_write(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, "layerwise", f"--workdir={tmp_path / 'file' / 'w'}", "--smoke")


def test_ctrl_c_ends_with_130_and_one_line(capsys, monkeypatch, tmp_path):
    from jax_prune.studies import layerwise

    def interrupted(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(layerwise, "run", interrupted)
    line = fails(capsys, "layerwise", f"--workdir={tmp_path}", status=130)
    assert "finished stages are kept" in line


def test_evaluate_measures_what_the_file_holds(capsys, tmp_path):
    import jax

    from jax_prune import nets
    from jax_prune.deploy import packed

    params = jax.tree.map(np.asarray, nets.build("lenet300").params)
    masks = jax.tree.map(lambda leaf: np.abs(leaf) > 0.1, params)
    pruned = jax.tree.map(np.multiply, params, masks)
    packed.write_packed(tmp_path / "m", {"net": "lenet300", "dataset": "mnist"}, pruned, {}, masks, {})
    assert cli.main(["evaluate", f"--model={tmp_path / 'm'}"]) == 0
    text = capsys.readouterr().out
    assert f"{sum(int(m.sum()) for m in jax.tree.leaves(masks)):,}" in text and "test error" in text
    wrong = {"net": "lenet5", "dataset": "mnist"}
    packed.write_packed(tmp_path / "n", wrong, pruned, {}, masks, {})
    assert "does not fit the net it names" in fails(capsys, "evaluate", f"--model={tmp_path / 'n'}")


def test_help_shows_the_defaults_of_the_net_and_preset_asked_about(capsys):
    assert cli.main(["layerwise", "--config.net=lenet5", "--preset=record", "--help"]) == 0
    lenet5 = capsys.readouterr().out
    assert cli.main(["layerwise", "--help"]) == 0
    assert f"(default: {layerwise.Config.preset('lenet5', 'record').compression})" in lenet5
    assert f"(default: {layerwise.Config.preset().compression})" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_numbers_must_be_finite(tmp_path, capsys, value):
    assert "expected a number" in fails(capsys, "layerwise", f"--workdir={tmp_path}", f"--config.memory={value}")


@pytest.mark.parametrize("source", ["raise NameError('unheard of')", "def broken(:", "import not_there_at_all"])
def test_a_module_that_cannot_be_imported_says_why(tmp_path, capsys, monkeypatch, source):
    name = f"broken_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = fails(capsys, "layerwise", f"--workdir={tmp_path / 'run'}", f"--config.net={name}:make")
    assert "package.module:factory" in line
