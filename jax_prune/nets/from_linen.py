"""A Flax Linen module with its variables as a pure Net, and back."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import linen

from jax_prune.errors import BadInput
from jax_prune.types import Array, Net, Tree

TRAIN_ARGUMENTS = ("train", "training", "is_training")
EVALUATION_ARGUMENTS = ("deterministic", "eval", "use_running_average")


def from_linen(
    module: linen.Module, variables: Tree, *, build: Callable[[Mapping[str, Any]], linen.Module] | None = None
) -> Net:
    """Net of a Linen module and the variables that ``init`` or training gave.

    ``build`` makes the module anew from the outputs of its layers, by their paths: what cuts channels needs it, unless
    it is given there (see ``pruning.compact``).

    ``params`` is ``variables['params']``; ``state`` holds the other collections. Where the
    module's ``__call__`` has an argument named train, training, is_training, deterministic, eval or
    use_running_average, it is set to suit. ``net.rebuild(params, state)`` gives the variables. Raises BadInput for
    anything else.
    """
    if not isinstance(module, linen.Module) or not isinstance(variables, Mapping) or "params" not in variables:
        raise BadInput("from_linen takes a Linen module and its variables, {'params': ..., other collections}")
    rest = {name: collection for name, collection in variables.items() if name != "params"}
    return Net(params=_plain(variables["params"]), state=_plain(rest), apply=_Apply(module, build), rebuild=_rebuild)


@dataclasses.dataclass(frozen=True)
class _Apply:
    module: linen.Module
    build: Callable[[Mapping[str, Any]], linen.Module] | None = None

    def __call__(self, params: Tree, state: Tree, x: Any, *, train: bool, key: Array | None) -> tuple[Any, Tree]:
        random = train and key is not None
        arguments = inspect.signature(type(self.module).__call__).parameters
        flags: dict[str, Any] = {name: train for name in TRAIN_ARGUMENTS if name in arguments}
        flags |= {name: not train for name in EVALUATION_ARGUMENTS if name in arguments}
        if "deterministic" in arguments:
            flags["deterministic"] = not random
        variables = _rebuild(params, state)
        if not train:
            return self.module.apply(variables, x, **flags), state
        streams = {"dropout": key} if key is not None else None
        outputs, new_state = self.module.apply(variables, x, rngs=streams, mutable=list(state), **flags)
        return outputs, _plain(new_state)


def _rebuild(params: Tree, state: Tree) -> Tree:
    return {"params": params, **state}


def _plain(tree: Any) -> Tree:
    """Nested plain dicts, whatever mapping type Linen gave."""
    if hasattr(tree, "items"):
        return {name: _plain(child) for name, child in tree.items()}
    return tree
