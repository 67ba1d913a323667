"""The command line: ``jax-prune STUDY --workdir=W [--config.field=value]``, and what looks at finished runs.

jax is imported only when something is computed, so that help, list and errors answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from jax_prune import __version__, distributed, flags
from jax_prune.errors import BadInput
from jax_prune.studies import STUDIES, options

BAD_INPUT, INTERRUPTED = 2, 130
HELP = ("--help", "-h", "-help", "--helpfull")
INTERRUPTED_TEXT = "interrupted: finished stages are kept; run the same command again to go on"

USAGE = """\
jax-prune finds how much every layer of a JAX/Flax network can lose, and removes it.

usage: jax-prune COMMAND [FLAGS]

studies
{studies}

on finished runs
  evaluate   re-measure a packed or compact net: --model=FILE or --workdir=W
  report     write report.html and report.md again from report.json: --workdir=W
  compare    several runs in one table: --workdir=A --workdir=B [--out=FOLDER]

other
  groups     the channels of a network that can be cut, where they appear, why others stay: --config.net=NAME
  data       data prepare NAME --from DIR --data_dir OUT: raw files to a TFDS data set
  list       the studies, one line each

'jax-prune COMMAND --help' lists a command's flags. Version {version}."""


def console() -> None:
    """Entry point of the installed command."""
    try:
        status = main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        status = 1
    distributed.leave(status)
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Runs one command; gives 0, or 2 after one line on stderr for bad input, or 130 after Ctrl-C."""
    try:
        return _dispatch(list(argv))
    except BadInput as error:
        return _fail(f"error: {error}", BAD_INPUT)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED_TEXT, INTERRUPTED)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"error:{where} {error.strerror or error}; check the path and its permissions", BAD_INPUT)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_usage())
        return 0 if argv else BAD_INPUT
    if argv[0] in ("--version", "version"):
        print(__version__)
        return 0
    command, arguments = argv[0], argv[1:]
    commands: dict[str, Callable[[list[str]], int]] = {
        "list": _list,
        "data": _data,
        "groups": _groups,
        "evaluate": _evaluate,
        "report": _report,
        "compare": _compare,
    }
    if command in STUDIES:
        return _study(command, arguments)
    if command not in commands:
        close = difflib.get_close_matches(command, [*STUDIES, *commands], 1)
        hint = f"did you mean {close[0]}?" if close else "'jax-prune list' lists the studies"
        raise BadInput(f"unknown command '{command}': {hint}")
    return commands[command](arguments)


def _study(name: str, arguments: list[str]) -> int:
    """Runs a study; flags given by the user go over the preset, which may depend on the net."""
    study = _module(name)
    if wants_help(arguments):
        values, config = _preset(name, arguments)
        print((study.__doc__ or "").strip())
        net = f" --config.net={config.net}" if hasattr(config, "net") else ""
        print(f"\nflags (defaults: those of --preset={values.preset}{net})")
        print(flags.describe(_study_flags(config)))
        return 0
    config, workdir = configured(name, arguments)
    distributed.start()
    report = study.run(config, workdir)
    from jax_prune import report as reporting

    if distributed.is_first():
        reporting.show(report, Path(workdir) / "report.html")
    return 0


def configured(name: str, arguments: list[str]) -> tuple[Any, str]:
    """The config and the workdir that a study's flags ask for. Raises BadInput for flags that say nothing to it."""
    values, preset = _preset(name, arguments)
    workdir = _required(values, "workdir", f"jax-prune {name} --workdir=runs/{name}")
    config = flags.apply(values, preset.smoke() if values.smoke else preset)
    options.refuse_idle(config.idle, flags.given(values))
    return config, workdir


def _preset(name: str, arguments: list[str]) -> tuple[absl_flags.FlagValues, Any]:
    """The flags as given, and the config of the preset and the net that they name."""
    study = _module(name)
    values = _study_flags(study.Config.preset())
    _no_more(flags.parse(values, [argument for argument in arguments if argument not in HELP]), name)
    net = flags.given(values).get("net", getattr(study.Config(), "net", ""))
    return values, study.Config.preset(net, values.preset)


def _module(name: str) -> Any:
    return importlib.import_module(f"jax_prune.studies.{name}")


def _study_flags(config: Any) -> absl_flags.FlagValues:
    values = absl_flags.FlagValues()
    _define(values, "workdir", None, "folder of the run: made if absent, resumed if it holds the same run")
    _define(values, "preset", "default", "settings to start from: default, compare, or another that the study has")
    absl_flags.DEFINE_boolean("smoke", False, "the same run in seconds, with meaningless accuracy", flag_values=values)
    flags.define(values, config)
    return values


def _list(arguments: list[str]) -> int:
    for name, line in STUDIES.items():
        print(f"{name:<12} {line}")
    return 0


def _groups(arguments: list[str]) -> int:
    from jax_prune.studies import groups

    values = absl_flags.FlagValues()
    flags.define(values, groups.Config())
    if wants_help(arguments):
        print(f"usage: jax-prune groups --config.net=NAME\n{flags.describe(values)}")
        return 0
    _no_more(flags.parse(values, arguments), "groups")
    print(groups.table(flags.apply(values, groups.Config())))
    return 0


def _data(arguments: list[str]) -> int:
    values = absl_flags.FlagValues()
    _define(values, "from", None, "folder of the raw files")
    _define(values, "data_dir", None, "folder of TFDS data sets to write to")
    if wants_help(arguments) or arguments[:1] != ["prepare"]:
        print(f"usage: jax-prune data prepare NAME --from DIR --data_dir OUT\n{flags.describe(values)}")
        return 0 if wants_help(arguments) else BAD_INPUT
    names = flags.parse(values, arguments[1:])
    example = "jax-prune data prepare fashion_mnist --from RAW --data_dir DATA"
    if len(names) != 1:
        raise BadInput(f"data prepare takes one name, not {len(names)}: {example}")
    source, target = _required(values, "from", example), _required(values, "data_dir", example)
    from jax_prune import datasets

    print(f"prepared {names[0]} in {datasets.prepare(names[0], source, target)}")
    return 0


def _evaluate(arguments: list[str]) -> int:
    values = absl_flags.FlagValues()
    _define(values, "model", None, "net to measure, such as W/model.jaxprune or W/compact.safetensors")
    _define(values, "workdir", None, "finished run whose net to measure")
    _define(values, "data_dir", None, "where prepared data sets lie")
    if wants_help(arguments):
        print(f"usage: jax-prune evaluate --model=FILE | --workdir=W\n{flags.describe(values)}")
        return 0
    _no_more(flags.parse(values, arguments), "evaluate")
    from jax_prune.studies import evaluate

    model = values.model
    if model is None:
        workdir = _required(values, "workdir", "jax-prune evaluate --model=W/model.jaxprune")
        model = evaluate.model_of(Path(workdir))
    data_dir = values.data_dir or evaluate.data_dir_of(Path(model).parent)
    print(evaluate.table(evaluate.measure(model, data_dir)))
    return 0


def _report(arguments: list[str]) -> int:
    values = absl_flags.FlagValues()
    _define(values, "workdir", None, "folder of a finished run")
    if wants_help(arguments):
        print(f"usage: jax-prune report --workdir=W\n{flags.describe(values)}")
        return 0
    _no_more(flags.parse(values, arguments), "report")
    folder = Path(_required(values, "workdir", "jax-prune report --workdir=runs/quickstart"))
    from jax_prune import report as reporting

    report = reporting.Report.from_json(folder / "report.json")
    reporting.show(report, reporting.write(report, folder))
    return 0


def _compare(arguments: list[str]) -> int:
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_multi_string("workdir", [], "folder of a finished run; give two or more", flag_values=values)
    _define(values, "out", None, "folder for compare.md and compare.html")
    if wants_help(arguments):
        print(f"usage: jax-prune compare --workdir=A --workdir=B [--out=FOLDER]\n{flags.describe(values)}")
        return 0
    _no_more(flags.parse(values, arguments), "compare")
    if len(set(values.workdir)) < 2:
        raise BadInput("compare needs two different runs or more: jax-prune compare --workdir=A --workdir=B")
    from jax_prune.report import compare

    print(compare.markdown(compare.load(values.workdir)))
    if values.out is not None:
        print(f"written: {', '.join(str(path) for path in compare.write(values.workdir, values.out))}")
    return 0


def _usage() -> str:
    studies = "\n".join(f"  {name:<10} {line}" for name, line in STUDIES.items())
    return USAGE.format(studies=studies, version=__version__)


def _define(values: absl_flags.FlagValues, name: str, default: Any, text: str) -> None:
    absl_flags.DEFINE_string(name, default, text, flag_values=values)


def wants_help(arguments: Sequence[str]) -> bool:
    return any(argument in HELP for argument in arguments)


def _no_more(rest: Sequence[str], command: str) -> None:
    if rest:
        raise BadInput(f"{command} takes flags only, not '{rest[0]}'; --help lists them")


def _required(values: absl_flags.FlagValues, name: str, example: str) -> str:
    value = values[name].value
    if not value:
        raise BadInput(f"--{name} is missing, for example: {example}")
    return str(value)


def _fail(line: str, status: int) -> int:
    print(f"jax-prune: {' '.join(line.split())}", file=sys.stderr)
    return status
