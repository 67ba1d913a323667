"""Starts a study on every host of a Cloud TPU pod slice.

    python launch/tpu_pod.py --name=my-pod --zone=us-central2-b layerwise --workdir=/mnt/disk/runs/pod

Runs one gcloud command, which --dry_run prints; the hosts find each other. jax-prune must be installed on them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from common import BadInput, absl_flags, check, distributed, main, new_flags, run, split


def launch(arguments: list[str]) -> int:
    """Starts what ``arguments`` say, or prints it; gives gcloud's exit status."""
    values = new_flags()
    for name, default, text in (
        ("name", None, "the TPU's name"),
        ("zone", None, "the TPU's zone"),
        ("project", None, "the project; default: gcloud's own"),
        ("folder", None, "where to start on each host; default: where ssh arrives"),
        ("python", "python3", "interpreter that has jax-prune, on the hosts"),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=values)
    study = split(values, arguments, "tpu_pod.py", (__doc__ or "").strip())
    if study is None:
        return 0
    for name in ("name", "zone"):
        if not values[name].value:
            raise BadInput(f"--{name} is missing: --name=my-pod --zone=us-central2-b")
    remote = remote_command(study, values.python, values.folder)
    place = [f"--zone={values.zone}", *([f"--project={values.project}"] if values.project else [])]
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", values.name, *place]
    command = [*ssh, "--worker=all", f"--command={remote}"]
    check(study)
    if values.dry_run:
        print(shlex.join(command))
        return 0
    return run(command)


def remote_command(study: Sequence[str], python: str, folder: str | None) -> str:
    """What the shell of every host is told."""
    start = shlex.join(["env", f"{distributed.COORDINATOR}={distributed.AUTO}", python, "-m", "jax_prune", *study])
    return f"cd {shlex.quote(folder)} && {start}" if folder else start


if __name__ == "__main__":
    main(launch)
