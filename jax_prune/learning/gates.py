"""Channels that are gated while a net trains, and are fewer at its end: to an exact target during one training.

Both ways see each example's slopes, the derivatives of the mean loss by its gates. See ``nets.gating`` for where the
gates are, ``train(gating=...)`` for the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_prune.errors import BadInput
from jax_prune.nets.gating import Gated
from jax_prune.pruning import masks as masking
from jax_prune.pruning import thresholds, utility
from jax_prune.pruning.thresholds import Limit
from jax_prune.types import Array, Net

BEGIN, END = 0.05, 0.7  # of a training: when channels begin to go, and when the last has gone


class Gating(Protocol):
    """A pytree whose settings are arrays, so that other settings compile nothing; ``state`` is one too.

    ``progress`` is the share of the training that is done, 1 at its end; gates are arrays [n_g] of 0 and 1.
    """

    gated: Any  # Gated; static

    def start(self) -> Any:
        """The state before the first step."""

    def flags(self, state: Any, progress: Array) -> tuple[Array, ...]:
        """Which units are on: bool [n_g]."""

    def step(self, state: Any, flags: Sequence[Array], slopes: Sequence[Array], progress: Array) -> Any:
        """The state after a step that ran with ``flags`` and gave ``slopes`` [B, n_g]."""


@flax.struct.dataclass
class UtilityGates:
    """Dynamic Channel Propagation (Shen et al. 2020; see ``pruning.utility``).

    To the global prune rate of ``place``, as published; where there are ``limits``, to these instead, by one threshold
    on the utilities: that variant is ours.
    """

    gated: Gated = flax.struct.field(pytree_node=False)
    place: Array  # int32
    limits: tuple[Limit, ...]
    explore: Array  # share of the training with all channels active
    decays: Array  # float32 [M + 1]
    milestones: Array  # float32 [M]: shares at which the next decay begins

    def start(self) -> tuple[Array, ...]:
        return utility.start(self.gated.groups)

    def flags(self, state: tuple[Array, ...], progress: Array) -> tuple[Array, ...]:
        groups, moves = self.gated.groups, movable(self.gated)
        if self.limits:
            chosen = thresholds.within(state, groups, self.limits, moves)
        else:
            found = iter(utility.active([own for own, on in zip(state, moves, strict=True) if on], self.place))
            whole = [jnp.ones(group.size, bool) for group in groups]
            chosen = tuple(next(found) if on else every for every, on in zip(whole, moves, strict=True))
        return tuple(own | (progress < self.explore) for own in chosen)

    def step(
        self, state: tuple[Array, ...], flags: Sequence[Array], slopes: Sequence[Array], progress: Array
    ) -> tuple[Array, ...]:
        decay = self.decays[(progress >= self.milestones).sum()]
        new = utility.contribution(flags, slopes, self.gated.positions)
        return utility.updated(state, flags, new, decay)


class Scores(NamedTuple):
    """Trained gate scores [n_g] and what their optimizer remembers."""

    scores: tuple[Array, ...]
    optimizer: Any


@flax.struct.dataclass
class ScoreGates:
    """Trained gate scores, straight through: after Qi et al. 2021 (EURASIP JASP 2021:31), settings ours.

    A unit is on where its score is above one global threshold, which holds the budgets; these fall from the whole
    net's cost to the ``limits`` along the cubic of Zhu & Gupta 2017 (section 3), between the shares ``begin`` and
    ``end`` of the training. Backwards a gate counts as its score (Bengio et al. 2013), on or off, so what is off can
    come back. What makes unlike layers comparable: slopes count against their group's mean, since batch norm behind a
    layer makes them sum to zero, and nothing does elsewhere; and steps are Adam's. From ``end`` on nothing changes.
    """

    gated: Gated = flax.struct.field(pytree_node=False)
    limits: tuple[Limit, ...]
    begin: Array
    end: Array
    direction: Callable[[], optax.GradientTransformation] = flax.struct.field(
        pytree_node=False, default=optax.scale_by_adam
    )

    def start(self) -> Scores:
        scores = tuple(jnp.zeros(group.size) for group in self.gated.groups)
        return Scores(scores, self.direction().init(scores))

    def flags(self, state: Scores, progress: Array) -> tuple[Array, ...]:
        left = (1 - jnp.clip((progress - self.begin) / (self.end - self.begin), 0, 1)) ** 3
        limits = [thresholds.loosened(limit, self.gated.groups, left) for limit in self.limits]
        return thresholds.within(state.scores, self.gated.groups, limits, movable(self.gated))

    def step(self, state: Scores, flags: Sequence[Array], slopes: Sequence[Array], progress: Array) -> Scores:
        gradient = tuple(slope.sum(0) - slope.sum(0).mean() for slope in slopes)
        steps, optimizer = self.direction().update(gradient, state.optimizer, state.scores)
        moving = progress < self.end
        scores = tuple(jnp.where(moving, own - step, own) for own, step in zip(state.scores, steps, strict=True))
        return Scores(scores, optimizer)


def by_utility(
    gated: Gated,
    rate: float | None = None,
    *,
    budgets: Sequence[tuple[Any, int]] = (),
    explore: float = 0.05,
    decays: Sequence[float] = (utility.DECAY,),
    milestones: Sequence[float] = (),
) -> UtilityGates:
    """Channels to a prune ``rate``, or to ``budgets`` (cost, most), the first to be met, by their utility.

    ``explore`` is the share of the training before the first mask; the published 10 of 200 epochs are 0.05. Decays
    follow one another at ``milestones``, shares of the training; ``utility.decays`` makes ImageNet's. Raises BadInput
    for what cannot be met, and where nothing can be gated.
    """
    units = _gateable_units(gated)
    if (rate is None) == (not budgets):
        raise BadInput("give a prune rate or budgets, one of the two")
    if not 0 < explore <= 1 or len(decays) != len(milestones) + 1:
        raise BadInput(
            f"explore={explore} must be above 0, at most 1, and {len(milestones)} milestones have one decay more, "
            f"not {len(decays)}"
        )
    return UtilityGates(
        gated,
        jnp.int32(utility.place(units, rate) if rate is not None else 0),
        _limits(gated, budgets),
        jnp.float32(explore),
        jnp.asarray(decays, jnp.float32),
        jnp.asarray(milestones, jnp.float32),
    )


def by_score(gated: Gated, budgets: Sequence[tuple[Any, int]], *, begin: float = BEGIN, end: float = END) -> ScoreGates:
    """Channels to ``budgets`` (cost, most), the first to be met, by trained scores.

    Raises BadInput as ``by_utility``.
    """
    _gateable_units(gated)
    if not budgets or not 0 <= begin < end <= 1:
        raise BadInput(f"begin={begin} and end={end} must be shares, begin the smaller, and one budget given at least")
    return ScoreGates(gated, _limits(gated, budgets), jnp.float32(begin), jnp.float32(end))


def check_silence(net: Net, gated: Gated, x: Any) -> None:
    """Raises BadInput where units whose gates are 0 still reach the outputs for ``x`` [B, ...]."""
    flags = tuple(jnp.arange(group.size) % 2 == 1 if moves else jnp.ones(group.size, bool)
                  for group, moves in zip(gated.groups, movable(gated), strict=True))  # fmt: skip
    removal = masking.scatter(masking.full(net.params), net.params, gated.groups, flags)
    outputs = [
        _evaluated(gated.apply, params, net.state, x, tuple(flag.astype(jnp.float32) for flag in flags))
        for params in (net.params, masking.apply(net.params, removal))
    ]
    for one, other in zip(*map(jax.tree.leaves, outputs), strict=True):
        if not np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max(initial=0)):
            raise BadInput(
                "a gate of 0 does not silence its channels: an activation after it makes something else of a 0, as a "
                "sigmoid does; leave such groups out"
            )


@partial(jax.jit, static_argnums=0)
def _evaluated(apply: Any, params: Any, state: Any, x: Any, opened: Any) -> Any:
    return apply(params, state, x, opened, train=False, key=None)[0]


def movable(gated: Gated) -> tuple[bool, ...]:
    """Which groups have gates."""
    return tuple(not reason for reason in gated.reasons)


def _limits(gated: Gated, budgets: Sequence[tuple[Any, int]]) -> tuple[Limit, ...]:
    return tuple(thresholds.limit(cost, most, gated.groups, movable(gated)) for cost, most in budgets)


def _gateable_units(gated: Gated) -> int:
    units = sum(group.size for group, moves in zip(gated.groups, movable(gated), strict=True) if moves)
    if any(group.tied for group in gated.groups):
        raise BadInput("gates choose every group's units alone: leave out 'tied'")
    if not units:
        raise BadInput(f"no group can be gated: {gated.groups[0].name}: {gated.reasons[0]}" if gated.groups else
                       "no group can be gated: there is none")  # fmt: skip
    return units
