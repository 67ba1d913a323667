"""Evolutionary search over layers' pruning ratios, or over any box of real vectors.

    from jax_prune import evosearch

    config = evosearch.Config(population=24, generations=15)
    result = evosearch.search(jax.random.key(0), config, evosearch.Bounds(lower, upper), fitness)
    result.best, result.score.value, result.info.vectors

``fitness(genome [G]) -> scalar`` judges one candidate, lower is better; the search evaluates many at once. With
``objectives(genome [G]) -> [M]``, ``evosearch.front`` finds what no other vector beats in everything.
"""

from jax_prune.evosearch import examples, fidelity, grid, history, memory, probe, recalibration, sensitivity, sharding
from jax_prune.evosearch.algorithms import ALGORITHMS
from jax_prune.evosearch.audit import Audit, audit
from jax_prune.evosearch.channels import ChannelLoss, channel_loss
from jax_prune.evosearch.config import Config
from jax_prune.evosearch.evaluation import Fitness, evaluate, lift
from jax_prune.evosearch.evolution import Result, compilations, search
from jax_prune.evosearch.front import Front, front
from jax_prune.evosearch.generation import step
from jax_prune.evosearch.masked import MaskedLoss, Means, masked_loss
from jax_prune.evosearch.objectives import (
    BudgetLoss,
    Tolerance,
    budget_loss,
    genome_box,
    genome_of,
    reachable,
    tolerance,
)
from jax_prune.evosearch.pareto import Points
from jax_prune.evosearch.record import Info
from jax_prune.evosearch.rescoring import Rescored, rescored
from jax_prune.evosearch.score import Score, better
from jax_prune.evosearch.state import State, init
from jax_prune.evosearch.trade_off import Cost, TradeOff, kept_macs, kept_parameters, packed_bytes, trade_off
from jax_prune.evosearch.vectors import around
from jax_prune.types import Bounds

__all__ = [
    "ALGORITHMS",
    "Audit",
    "Bounds",
    "BudgetLoss",
    "ChannelLoss",
    "Config",
    "Cost",
    "Fitness",
    "Front",
    "Info",
    "MaskedLoss",
    "Means",
    "Points",
    "Rescored",
    "Result",
    "Score",
    "State",
    "Tolerance",
    "TradeOff",
    "around",
    "audit",
    "better",
    "budget_loss",
    "channel_loss",
    "compilations",
    "evaluate",
    "examples",
    "fidelity",
    "front",
    "genome_box",
    "genome_of",
    "grid",
    "history",
    "init",
    "lift",
    "kept_macs",
    "kept_parameters",
    "masked_loss",
    "memory",
    "packed_bytes",
    "probe",
    "reachable",
    "recalibration",
    "rescored",
    "search",
    "sensitivity",
    "sharding",
    "step",
    "tolerance",
    "trade_off",
]
