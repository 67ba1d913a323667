"""Several trained nets that answer as one: a better teacher than any of them alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jax_prune.errors import BadInput
from jax_prune.types import Array, Net, Tree


def committee(members: Sequence[Net]) -> Net:
    """A net whose outputs are the mean of its ``members``' outputs; they share one architecture.

    A teacher made of independently trained nets errs less than each (Hinton et al. 2015, section 1).
    Its ``rebuild`` gives the list of the members' own objects. Raises BadInput for no members or unlike ones.
    """
    if not members:
        raise BadInput("a committee needs at least one net")
    first = members[0]
    if any(member.apply != first.apply for member in members):
        raise BadInput("the nets of a committee must share one architecture")
    names = [f"member_{number}" for number in range(len(members))]
    params = dict(zip(names, (member.params for member in members), strict=True))
    state = dict(zip(names, (member.state for member in members), strict=True))
    return Net(params, state, apply=_Mean(first.apply), rebuild=_Each(first.rebuild))


@dataclasses.dataclass(frozen=True)
class _Mean:
    member: Callable[..., tuple[Any, Tree]]

    def __call__(self, params: Tree, state: Tree, x: Any, *, train: bool, key: Array | None) -> tuple[Any, Tree]:
        answers = {name: self.member(params[name], state[name], x, train=train, key=key) for name in params}
        outputs = [outputs for outputs, _ in answers.values()]
        mean = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *outputs)
        return mean, {name: new for name, (_, new) in answers.items()}


@dataclasses.dataclass(frozen=True)
class _Each:
    member: Callable[[Tree, Tree], Any]

    def __call__(self, params: Tree, state: Tree) -> list[Any]:
        return [self.member(params[name], state[name]) for name in params]
