"""Settings of a dataclass or NamedTuple against their annotations, before any of them is used."""

from __future__ import annotations

import collections.abc
import numbers
import types
import typing
from typing import Any, ClassVar, Union

from jax_prune.errors import BadInput

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", types.NoneType: "None"}
NUMBERS = {int: numbers.Integral, float: numbers.Real}


def check(settings: Any, inside: str = "") -> None:
    """Raises BadInput for the first field that is not what its annotation says; ``inside`` names what holds them.

    int, float, str, bool, None, unions, tuples, callables and classes are told apart; anything else passes. Whole
    numbers do for float, NumPy's scalars for Python's, lists for tuples of any length; True and False are no numbers.
    """
    for name, annotation in _annotations(type(settings)).items():
        value = getattr(settings, name)
        if not fits(value, annotation):
            raise BadInput(f"{inside}{name} is {shown(value)}: give {expected(annotation)}")


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what the annotation says."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in NUMBERS:
        return isinstance(value, NUMBERS[annotation]) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return isinstance(value, (tuple, list)) and all(fits(entry, inner[0]) for entry in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin is collections.abc.Callable:
        return callable(value)
    return annotation is Any or not isinstance(annotation, type) or isinstance(value, annotation)


def expected(annotation: Any) -> str:
    """What an annotation asks for, in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(expected, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return f"a tuple or list, each entry {expected(inner[0])}"
    if origin is tuple:
        return f"a tuple of {len(inner)}, each {expected(inner[0])}"
    if origin is collections.abc.Callable:
        return "a function"
    return WORDS.get(annotation) or f"a {getattr(annotation, '__name__', annotation)}"


def shown(value: Any, most: int = 60) -> str:
    """A value in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _annotations(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if typing.get_origin(hint) is not ClassVar}
