"""Frozen dataclass -> absl flags -> frozen dataclass: every field a flag ``--config.FIELD``.

A flag's type is the field's annotation: int, float, str, bool, Literal, tuples of these, and ``X | None``. Only the
flags that the user gave replace anything, so presets stay what they are.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import textwrap
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar, Union

from absl import flags

from jax_prune.errors import BadInput

ConfigT = TypeVar("ConfigT")
PREFIX = "config."
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
TRUTHS = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
}


def define(values: flags.FlagValues, config: Any) -> None:
    """Defines ``--config.FIELD`` in ``values`` for every field of ``config``, a dataclass that gives the defaults.

    The help text is the field's ``metadata["help"]``. Raises TypeError for an annotation that no flag can carry.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        annotation, default = hints[field.name], getattr(config, field.name)
        name, text = PREFIX + field.name, field.metadata.get("help", "")
        parser = Parser(annotation)
        if annotation is bool:  # so that --config.FIELD alone means true and --noconfig.FIELD false
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        else:
            flags.DEFINE(parser, name, None, text, flag_values=values, serializer=None)
            values[name].value = default


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Reads ``arguments`` into ``values`` and gives what is not a flag; raises BadInput in one line."""
    try:
        return values(["jax-prune", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise BadInput(f"unknown flag --{error.flagname}{_hint(error.flagname, list(values))}") from None
    except flags.Error as error:
        raise BadInput(" ".join(str(error).split())) from None


def given(values: flags.FlagValues) -> dict[str, Any]:
    """The fields whose flags the user gave, by field name."""
    names = [name for name in values if name.startswith(PREFIX) and values[name].present]
    return {name.removeprefix(PREFIX): values[name].value for name in names}


def apply(values: flags.FlagValues, config: ConfigT) -> ConfigT:
    """``config`` with the fields replaced whose flags the user gave."""
    return dataclasses.replace(config, **given(values))  # type: ignore[type-var]


def describe(values: flags.FlagValues) -> str:
    """One entry a flag for --help, in the order of definition: how to give it, what it does, its default."""
    return "\n".join(_entry(flag) for flag in _in_order(values))


class Parser(flags.ArgumentParser):  # type: ignore[type-arg]
    """An annotation as an absl parser: ``parse(text)`` gives a value of that type."""

    syntactic_help = ""

    def __init__(self, annotation: Any):
        self.kind = expected(annotation)  # also refuses what no flag can carry
        self.annotation = annotation

    def parse(self, argument: Any) -> Any:
        """The value that the text ``argument`` stands for; raises ValueError saying what was expected."""
        try:
            return convert(argument, self.annotation)
        except ValueError:
            raise ValueError(f"expected {self.kind}") from None

    def flag_type(self) -> str:
        """The type as --help shows it."""
        return self.kind


def expected(annotation: Any) -> str:
    """What a flag of this annotation takes, in words; raises TypeError where a flag cannot carry it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in KINDS:
        return KINDS[annotation]
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, inner))
    if _is_optional(annotation):
        return f"{expected(_without_none(annotation))}, or none"
    if origin is tuple and inner[-1] is Ellipsis:
        return f"comma-separated, each {expected(inner[0])}"
    if origin is tuple and len(set(inner)) == 1:
        return f"{len(inner)} comma-separated, each {expected(inner[0])}"
    raise TypeError(f"no flag can carry a field of type {annotation}")


def convert(text: str, annotation: Any) -> Any:
    """``text`` as a value of ``annotation``; raises ValueError where it is none."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if _is_optional(annotation):
        return None if text.lower() == "none" else convert(text, _without_none(annotation))
    if origin is typing.Literal:
        return {str(choice): choice for choice in inner}[text] if text in map(str, inner) else _refuse()
    if origin is tuple:
        entries = _entries(text)
        if inner[-1] is not Ellipsis and len(entries) != len(inner):
            raise ValueError
        return tuple(convert(entry, inner[0]) for entry in entries)
    if annotation is bool:
        return TRUTHS[text.lower()] if text.lower() in TRUTHS else _refuse()
    value = annotation(text)
    return _refuse() if isinstance(value, float) and not math.isfinite(value) else value


def _entries(text: str) -> list[str]:
    # JSON for entries that hold commas themselves: --config.names='["a{1,2}", "b"]'
    if text.lstrip().startswith("["):
        return [entry if isinstance(entry, str) else json.dumps(entry) for entry in json.loads(text)]
    return [entry.strip() for entry in text.split(",")] if text.strip() else []


def _refuse() -> Any:
    raise ValueError


def _is_optional(annotation: Any) -> bool:
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    return is_union and len(typing.get_args(annotation)) == 2 and type(None) in typing.get_args(annotation)


def _without_none(annotation: Any) -> Any:
    return next(kind for kind in typing.get_args(annotation) if kind is not type(None))


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(PREFIX + name, known, 1, 0.8)
    return f"; did you mean --{close[0]}?" if close else "; --help lists them all"


def _in_order(values: flags.FlagValues) -> list[flags.Flag[Any]]:
    # absl sorts its own lists by name; FlagValues keeps its flags in a dict, hence in order of definition.
    return [flag for name, flag in values._flags().items() if name == flag.name]


def _entry(flag: flags.Flag[Any]) -> str:
    kind = "" if flag.boolean else "=" + _placeholder(flag.parser)
    default = "" if flag.value is None or flag.value == "" else f" (default: {_shown(flag.value)})"
    return f"  --{flag.name}{kind}\n" + textwrap.fill(
        f"{flag.help}{default}", 100, initial_indent=" " * 6, subsequent_indent=" " * 6
    )


def _placeholder(parser: Any) -> str:
    """What stands after the = in --help."""
    annotation: Any = getattr(parser, "annotation", str)
    annotation = _without_none(annotation) if _is_optional(annotation) else annotation
    return {int: "N", float: "X", str: "TEXT"}.get(annotation, "LIST")


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value)
