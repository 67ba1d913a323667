"""A study's settings: fields of its frozen Config, each a flag with a line of help; what is common to checking them."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from jax_prune.errors import BadInput


def option(default: Any, text: str) -> Any:
    """A dataclass field with its default, and what ``--help`` says of it."""
    return field(default=default, metadata={"help": text})


def refuse_idle(idle: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Raises BadInput for a setting that was given though it is ``idle``; one that turns something off may be."""
    for name, why in idle.items():
        if given.get(name):
            raise BadInput(f"{name}={given[name]} would do nothing, since {why}: drop one of the two")


def at_least(config: Any, bounds: Mapping[str, float]) -> None:
    """Raises BadInput for a setting below its bound, or that is no finite number."""
    for name, bound in bounds.items():
        if not bound <= getattr(config, name) < math.inf:
            raise BadInput(f"{name} is {getattr(config, name)}: give at least {bound}")


def above_zero(config: Any, names: Sequence[str]) -> None:
    """Raises BadInput for a setting that is not, or is no finite number."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise BadInput(f"{name} is {getattr(config, name)}: give a number above 0")


def made_of(config: Any) -> dict[str, Any]:
    """The arguments of ``nets.build`` for a study's network: its ``net``, ``width`` and ``seed``."""
    return {"name": config.net, "seed": config.seed} | ({} if config.width == 1 else {"width": config.width})


def narrowed(config: Any) -> tuple[str, ...]:
    """What a report notes of a network of another ``width`` than the published one."""
    if config.width == 1:
        return ()
    return (f"A network of {config.width:g} times the published channels: not the published one.",)


def command(study: str, config: Any, presets: Mapping[str, Any], always: Sequence[str] = ()) -> str:
    """The command that makes a run: the nearest of the ``presets``, and every setting that differs from it."""
    options = {name: _changes(config, preset) for name, preset in presets.items()}
    nearest = min(options, key=lambda name: len(options[name]))
    flags = [f"--preset={nearest}", *always, *options[nearest]]
    return " ".join([f"jax-prune {study} --workdir=W", *map(shlex.quote, flags)])


def _changes(config: Any, preset: Any) -> list[str]:
    now, before = dataclasses.asdict(config), dataclasses.asdict(preset)
    return [
        f"--config.{name}={_flag(value)}"
        for name, value in now.items()
        if value != before[name] and name not in config.idle
    ]


def _flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
