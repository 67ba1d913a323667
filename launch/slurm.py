"""Starts a study on many hosts of a Slurm cluster, one task a node.

    python launch/slurm.py --nodes=4 --time=02:00:00 layerwise --workdir=/shared/runs/four

Writes a batch script and hands it to sbatch; --dry_run prints it. A preempted job is queued again and goes on where
it stood: the first node alone reads and writes the workdir, so give one that any node can be the first to reach.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from common import BadInput, absl_flags, at_least, check, distributed, main, new_flags, run, split

# --kill-on-bad-exit: nobody waits for a process that has died
SCRIPT = """\
#!/bin/bash
{options}
set -euo pipefail
export {coordinator}="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p):{port}"
export {processes}="$SLURM_NNODES"
exec srun --kill-on-bad-exit=1 bash -c '{process}="$SLURM_PROCID" exec "$@"' jax-prune \\
    {command}
"""


def launch(arguments: list[str]) -> int:
    """Submits what ``arguments`` say, or prints the batch script; gives sbatch's exit status."""
    values = new_flags()
    absl_flags.DEFINE_integer("nodes", 2, "how many nodes, one process each", flag_values=values)
    absl_flags.DEFINE_string("time", "01:00:00", "limit of the job, as sbatch takes it", flag_values=values)
    absl_flags.DEFINE_integer("port", 12345, "where the processes meet on the first node", flag_values=values)
    absl_flags.DEFINE_string("python", "python", "interpreter that has jax-prune, on the nodes", flag_values=values)
    absl_flags.DEFINE_multi_string(
        "sbatch", [], "further option of sbatch, such as --sbatch=partition=gpu --sbatch=gpus-per-node=8",
        flag_values=values,
    )  # fmt: skip
    study = split(values, arguments, "slurm.py", (__doc__ or "").strip())
    if study is None:
        return 0
    options = {"job-name": f"jax-prune-{study[0]}", "nodes": at_least(values, "nodes", 1), "time": values.time}
    script = script_of([f"{name}={value}" for name, value in options.items()] + values.sbatch,
                       [values.python, "-m", "jax_prune", *study], at_least(values, "port", 1))  # fmt: skip
    check(study)
    if values.dry_run:
        print(script, end="")
        return 0
    return run(["sbatch"], script)


def script_of(options: Sequence[str], command: Sequence[str], port: int) -> str:
    """The batch script. Raises BadInput for an option that would end its line."""
    for option in options:
        if option != " ".join(option.split()):
            raise BadInput(f"--sbatch is {option!r}: give one option without line ends, such as partition=gpu")
    return SCRIPT.format(
        options="\n".join(f"#SBATCH --{option}" for option in (*options, "ntasks-per-node=1", "requeue")),
        coordinator=distributed.COORDINATOR,
        processes=distributed.PROCESSES,
        process=distributed.PROCESS,
        port=port,
        command=shlex.join(command),
    )


if __name__ == "__main__":
    main(launch)
