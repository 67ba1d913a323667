"""A study's setting: a field of its frozen Config, which is a flag with a line of help."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(default: Any, text: str) -> Any:
    """A dataclass field with its default, and what ``--help`` says of it."""
    return field(default=default, metadata={"help": text})
