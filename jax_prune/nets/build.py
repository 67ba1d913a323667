"""A network by name, as the command line gives it: one of the zoo, or a user's own factory."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys

from flax import nnx

from jax_prune.errors import BadInput, said
from jax_prune.nets.from_nnx import from_nnx
from jax_prune.nets.lenet import LeNet5, LeNet300
from jax_prune.types import Net

ZOO = {"lenet300": LeNet300, "lenet5": LeNet5}


def build(name: str, seed: int = 0) -> Net:
    """The Net that ``name`` stands for: a key of ZOO, or ``package.module:factory``.

    A factory is called without arguments, or with ``seed=`` where it takes one; it returns a Net
    or an nnx.Module, trained or not. Raises BadInput for a name that leads nowhere.
    """
    if ":" in name:
        return _from_factory(name, seed)
    if name not in ZOO:
        close = difflib.get_close_matches(name, ZOO, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(ZOO)}, or package.module:factory"
        raise BadInput(f"unknown net '{name}': {hint}")
    return from_nnx(ZOO[name](rngs=nnx.Rngs(seed)))


def _from_factory(name: str, seed: int) -> Net:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        raise BadInput(
            f"net '{name}': {said(error)}; give it as package.module:factory, its folder being the current one or on "
            "PYTHONPATH"
        ) from error
    if not callable(factory):
        raise BadInput(f"net '{name}': {attribute} is not callable; name a function that returns a Net or nnx.Module")
    try:
        net = factory(seed=seed) if _takes_seed(factory) else factory()
    except (Exception, SystemExit) as error:
        raise BadInput(f"net '{name}': the factory raised {said(error)}") from error
    if isinstance(net, nnx.Module):
        net = from_nnx(net)
    if not isinstance(net, Net):
        raise BadInput(
            f"net '{name}': the factory gave a {type(net).__name__}; return an nnx.Module, "
            "or nets.from_linen(module, variables)"
        )
    return net


def _takes_seed(factory: object) -> bool:
    try:
        return "seed" in inspect.signature(factory).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
