"""The launch scripts print the exact commands, start those and no others, and stop all when one fails."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch"
STUDY = ["layerwise", "--workdir=my runs/a", "--config.rules=ip1/.*:frozen;ip2/.*:upper=0.9"]


def start(script, *arguments, programs=None):
    """Runs a script where no program is found, or those of the folder ``programs`` before the machine's own."""
    path = "/nowhere" if programs is None else f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    command = [sys.executable, str(LAUNCH / script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def stand_in(folder, name, script):
    """A program called ``name`` for the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


# what the interpreter of a stand-in cluster does: it writes down who it was told to be and what to run
RECORD = """
lines=("${JAX_PRUNE_COORDINATOR:-}" "${JAX_PRUNE_PROCESSES:-}" "${JAX_PRUNE_PROCESS:-}" "$PWD" "$@")
printf '%s\\n' "${lines[@]}" > "$RECORDS/${JAX_PRUNE_PROCESS:-all}"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH with a recording ``recorder`` for an interpreter, and where its records lie."""
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("RECORDS", str(tmp_path / "records"))
    return stand_in(tmp_path / "bin", "recorder", RECORD), tmp_path / "records"


def test_local_prints_one_command_a_process():
    done = start("local.py", "--dry_run", "--processes=3", "--port=4000", *STUDY)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines):
        who = ["JAX_PRUNE_COORDINATOR=127.0.0.1:4000", "JAX_PRUNE_PROCESSES=3", f"JAX_PRUNE_PROCESS={number}"]
        assert shlex.split(line) == ["env", *who, sys.executable, "-m", "jax_prune", *STUDY]


def test_slurm_starts_every_node_with_its_own_number(cluster):
    programs, records = cluster
    stand_in(
        programs, "sbatch", 'cat > "$RECORDS/script"; SLURM_JOB_NODELIST="n[1-2]" SLURM_NNODES=2 bash "$RECORDS/script"'
    )
    stand_in(programs, "scontrol", '[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"')
    stand_in(programs, "srun", '[ "$1" = --kill-on-bad-exit=1 ] && shift; for i in 0 1; do SLURM_PROCID=$i "$@"; done')
    arguments = ["--nodes=2", "--port=4000", "--python=recorder", "--sbatch=partition=gpu", *STUDY]
    printed = start("slurm.py", "--dry_run", *arguments, programs=programs)
    assert printed.returncode == 0 and not list(records.iterdir())
    assert start("slurm.py", *arguments, programs=programs).returncode == 0
    assert (records / "script").read_text() == printed.stdout
    for number in ("0", "1"):
        lines = (records / number).read_text().splitlines()
        assert lines == ["n1:4000", "2", number, str(Path.cwd()), "-m", "jax_prune", *STUDY]
    options = [line for line in printed.stdout.splitlines() if line.startswith("#SBATCH")]
    wanted = [
        "job-name=jax-prune-layerwise",
        "nodes=2",
        "time=01:00:00",
        "partition=gpu",
        "ntasks-per-node=1",
        "requeue",
    ]
    assert options == [f"#SBATCH --{option}" for option in wanted]


def test_tpu_pod_tells_every_worker(cluster, tmp_path):
    programs, records = cluster
    folder = tmp_path / "a folder"
    folder.mkdir()
    arguments = ["--name=pod", "--zone=z", "--project=p", f"--folder={folder}", "--python=recorder", *STUDY]
    # the shell of a worker gets what follows --command=
    stand_in(
        programs, "gcloud", 'printf "%s\\n" "$@" > "$RECORDS/gcloud"; last="${@: -1:1}"; bash -c "${last#--command=}"'
    )
    printed = start("tpu_pod.py", "--dry_run", *arguments, programs=programs)
    assert printed.returncode == 0 and not list(records.iterdir())
    assert start("tpu_pod.py", *arguments, programs=programs).returncode == 0
    told = (records / "gcloud").read_text().splitlines()
    assert ["gcloud", *told] == shlex.split(printed.stdout)
    assert told[:8] == ["compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=z", "--project=p", "--worker=all"]
    assert (records / "all").read_text().splitlines() == ["auto", "", "", str(folder), "-m", "jax_prune", *STUDY]


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("local.py", ["--processes=0", *STUDY], "--processes is 0: give at least 1"),
        ("local.py", ["--processes=many", *STUDY], "many"),
        ("local.py", ["--process=2", *STUDY], "did you mean --processes?"),
        ("local.py", ["--processes=2"], "no study is named"),
        ("local.py", ["layerwize"], "did you mean layerwise?"),
        ("local.py", ["--dry_run", "layerwise"], "--workdir is missing"),
        ("local.py", ["--dry_run", *STUDY, "--config.nett=x"], "did you mean --config.net?"),
        ("slurm.py", ["--dry_run", *STUDY, "--config.max_macs=9", "--config.compression=5"], "would do nothing"),
        ("tpu_pod.py", ["--dry_run", "--name=n", "--zone=z", *STUDY, "--config.population=2"], "population is 2"),
        ("slurm.py", ["--nodes=-1", *STUDY], "--nodes is -1: give at least 1"),
        ("slurm.py", ["--sbatch=a\nrm b", *STUDY], "give one option without line ends"),
        ("slurm.py", STUDY, "sbatch is not on this machine"),
        ("tpu_pod.py", ["--zone=z", *STUDY], "--name is missing"),
        ("tpu_pod.py", ["--name=n", "--zone=z", *STUDY], "gcloud is not on this machine"),
    ],
)
def test_bad_flags_are_one_line_and_status_2(script, arguments, says):
    done = start(script, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{script}: error: ") and says in done.stderr and done.stderr.count("\n") == 1


TOGETHER = f"""
import sys
sys.path.insert(0, {str(LAUNCH)!r})
import local
local.main(lambda arguments: local.together([[sys.executable, "-c", code] for code in arguments]))
"""
FOREVER = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"


def together(*codes):
    command = [sys.executable, "-c", TOGETHER, *codes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_lines_carry_the_number_of_their_process():
    output, errors = together("print('a')", "import sys; print('b', file=sys.stderr); print('c')").communicate(
        timeout=60
    )
    assert sorted(output.splitlines()) == ["[0] a", "[1] c"] and errors == "[1] b\n"


@pytest.mark.parametrize(("end", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_one_that_fails_ends_the_others_and_gives_its_status(end, status):
    process = together(FOREVER, f"import os, sys, time; time.sleep(1); {end}")
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status and time.monotonic() - begun < 30
    assert not is_alive(int(output.split()[2]))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_all(sent):
    process = together(FOREVER, FOREVER)
    started = [int(process.stdout.readline().split()[2]) for _ in range(2)]
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(map(is_alive, started))


def test_one_that_does_not_listen_is_killed():
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
    process = together(deaf, "import sys, time; time.sleep(2); sys.exit(3)")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and not is_alive(int(output.split()[2]))
