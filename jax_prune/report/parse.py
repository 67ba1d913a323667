"""JSON to frozen dataclasses, checked field by field against their annotations."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from jax_prune.errors import BadInput

T = TypeVar("T")


def read(kind: type[T], path: Path, version: int) -> T:
    """Read the JSON file at ``path`` as a ``kind``; raises BadInput with the file and the field at fault."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; run a study with this --workdir first") from None
    except OSError as failure:
        raise BadInput(f"cannot read {path}: {failure.strerror}") from None
    except ValueError as failure:  # torn or altered JSON, or bytes that are not UTF-8
        raise BadInput(f"{path} is not a whole JSON file ({failure}); run the study again") from None
    if isinstance(value, dict) and value.get("format", version) != version:
        found = value["format"]
        raise BadInput(f"{path} has format {found!r}, but {version} is read here; use the version that wrote it")
    try:
        return build(kind, value, "report")
    except BadInput as failure:
        raise BadInput(f"{path}: {failure}") from None


def build(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the annotation ``kind`` says; raises BadInput naming ``where`` it does not fit."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else build(inner[0], value, where)
    if origin is tuple:
        entries = _expect(list, value, where)
        return tuple(build(inner[0], entry, f"{where}[{i}]") for i, entry in enumerate(entries))
    if origin is dict:
        named = _expect(dict, value, where)
        return {key: build(inner[1], entry, f"{where}.{key}") for key, entry in named.items()}
    return _expect(kind, value, where)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    entries, hints = _expect(dict, value, where), get_type_hints(kind)
    unknown = set(entries) - set(hints)
    if unknown:
        raise BadInput(f"{where} has an unknown field {min(unknown)!r}; it holds {', '.join(hints)}")
    for entry in fields(kind):
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required and entry.name not in entries:
            raise BadInput(f"{where} lacks the field {entry.name!r}")
    return kind(**{name: build(hints[name], entry, f"{where}.{name}") for name, entry in entries.items()})


def _expect(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadInput(f"{where} is {value!r:.40}, expected {kind.__name__}")
    return value
