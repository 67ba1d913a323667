"""Shared by the Python launch scripts: their flags, the study's command, and errors as one line."""

from __future__ import annotations

import difflib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags as absl_flags

# a clone works without being installed; Python puts the script's own folder on its path, not this one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jax_prune import cli, distributed, flags  # noqa: E402
from jax_prune.errors import BadInput  # noqa: E402
from jax_prune.studies import STUDIES  # noqa: E402

__all__ = ["BadInput", "absl_flags", "at_least", "check", "distributed", "main", "new_flags", "refuse_unknown", "run",
           "split"]  # fmt: skip

BAD_INPUT, INTERRUPTED = 2, 130


def main(launch: Callable[[list[str]], int]) -> None:
    """Runs a script's ``launch(arguments)`` and exits with its status; 2 and one line for bad input."""
    try:
        sys.exit(launch(sys.argv[1:]))
    except BadInput as error:
        print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def new_flags() -> absl_flags.FlagValues:
    """Flags of one script: what every one of them has."""
    values = absl_flags.FlagValues()
    values.set_gnu_getopt(False)  # what follows the study's name is the study's
    absl_flags.DEFINE_boolean("dry_run", False, "print the exact commands and start nothing", flag_values=values)
    return values


def split(values: absl_flags.FlagValues, arguments: Sequence[str], script: str, text: str) -> list[str] | None:
    """Reads the script's own flags, up to STUDY, into ``values``; gives STUDY and its flags, None after --help."""
    usage = f"python launch/{script} [FLAGS] STUDY --workdir=W [--config.field=value]"
    if not arguments or arguments[0] in ("--help", "-h"):
        print(f"usage: {usage}\n\n{text}\n\nflags\n{flags.describe(values)}")
        return None
    study = flags.parse(values, arguments)
    if not study:
        raise BadInput(f"no study is named: {usage}")
    refuse_unknown(study[0])
    return study


def refuse_unknown(study: str) -> None:
    """Raises BadInput for a study that there is not, here rather than on many hosts."""
    if study not in STUDIES:
        close = difflib.get_close_matches(study, STUDIES, 1)
        raise BadInput(f"unknown study '{study}': {f'did you mean {close[0]}?' if close else 'see jax-prune list'}")


def check(study: Sequence[str]) -> None:
    """Raises BadInput for flags that the study would refuse, here rather than on many hosts; nets and data stay unread.

    It imports JAX but asks it for no device, which the processes to come will want for themselves.
    """
    name, *arguments = study
    if cli.wants_help(arguments):
        return
    config, _ = cli.configured(name, arguments)
    importlib.import_module(f"jax_prune.studies.{name}").check(config)


def at_least(values: absl_flags.FlagValues, name: str, least: int) -> int:
    """The whole number that a flag holds. Raises BadInput below ``least``."""
    if values[name].value < least:
        raise BadInput(f"--{name} is {values[name].value}: give at least {least}")
    return values[name].value


def run(command: Sequence[str], said: str | None = None) -> int:
    """A command's exit status, ``said`` on its standard input. Raises BadInput where it is not installed."""
    try:
        return subprocess.run(command, input=said, text=True, env=os.environ).returncode
    except FileNotFoundError:
        raise BadInput(f"{command[0]} is not on this machine: install it, or look with --dry_run") from None
