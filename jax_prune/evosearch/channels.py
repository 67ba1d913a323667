"""The question about a network's channels: least loss within budgets of parameters, products or measured latency.

limits = [limit(channel_costs.macs(net, groups, example), target)]      # of pruning.channel_budgets
fitness = channel_loss(masked, limits)
result = search(key, config, fitness.box, fitness)
kept = fitness.kept(result.best)
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.struct

from jax_prune.evosearch.masked import MaskedLoss
from jax_prune.evosearch.objectives import MeanLoss, genome_of, kept_range, ratio_bounds
from jax_prune.pruning import channel_budgets, channel_projection, lattice, units
from jax_prune.pruning.channel_budgets import Limit
from jax_prune.types import Array, Bounds


@flax.struct.dataclass
class ChannelLoss(MeanLoss):
    """Fitness: the loss of the network with the channels that all ``limits`` allow, infeasible where it has collapsed.

    Make it with ``channel_loss`` and search it in ``box``. A genome [V] is the logarithm of each group's kept share, up
    to a common factor: ``kept`` moves it onto the limits, inside the ``bounds`` of the ratios.
    """

    masked: MaskedLoss
    limits: tuple[Limit, ...]
    bounds: Bounds  # of the ratios

    @property
    def box(self) -> Bounds:
        """The box [V] of the genomes."""
        groups = self.masked.groups
        least, most = channel_budgets.kept_range(groups, self.bounds)
        return Bounds(genome_of(least, groups), genome_of(most, groups))

    def kept(self, genome: Array) -> Array:
        """int32 [G], costing at most every budget, with room for no step more."""
        lattice.check_length(lattice.of(self.masked.groups), genome)
        return channel_projection.project(genome, self.masked.groups, self.limits, self.bounds)


def channel_loss(masked: MaskedLoss, limits: Sequence[Limit], bounds: Bounds | None = None) -> ChannelLoss:
    """Least loss within all ``limits``, of which the first one is met, unless the others leave no way to.

    ``bounds`` of the ratios [G], by default none; a group always keeps a step. Raises BadInput for budgets that no
    counts within the bounds meet, for bounds that are none, and for groups of single entries.
    """
    shapes = units.shapes_of(masked.net.params)
    for group in masked.groups:
        units.slots(shapes, group)
    box = ratio_bounds(masked, bounds)
    kept_range(masked.groups, box)
    channel_budgets.check(limits, masked.groups, box)
    return ChannelLoss(masked, tuple(limits), box)
