"""Searches of the small problem on meshes of whatever devices there are: python sharded.py OUT CASES MESH...

CASES is "few" or "all", and a case may end with shares of the data; a MESH is "none", for no mesh, or CANDIDATESxDATA.
Every search's arrays go to OUT.MESH.npz, by the first process alone.
"""

import sys

from jax_prune import distributed, evosearch

distributed.start()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from conftest import SIZES, close, make_problem, squared  # noqa: E402

from jax_prune import nets  # noqa: E402
from jax_prune.learning import correct, cross_entropy  # noqa: E402
from jax_prune.pruning import masks, scores  # noqa: E402
from jax_prune.pruning.groups import weight_groups  # noqa: E402
from jax_prune.types import Batch  # noqa: E402

RATIOS = evosearch.Bounds(np.zeros(3), np.array([0.9, 0.95, 0.8]))
FEW = [
    ("tolerance", "shade", 8, 1, "exact"),
    ("plain", "rand1bin", 10, 3, "none"),
    ("budget", "rand1bin", 10, 4, "exact", 0.4, 1.0),
]
ALL = [
    *FEW,
    ("budget", "rand1bin", 10, 4, "exact"),
    *[(form, name, population, width, race) for form, name in (("budget", "shade"), ("tolerance", "rand1bin"))
      for population, width in ((10, 1), (10, 4), (10, 10), (33, 8)) for race in ("exact", "none")],
    ("lenet300 budget", "rand1bin", 10, 4, "exact"), ("lenet300 tolerance", "shade", 9, 1, "exact"),
    ("tolerance", "shade", 10, 1, "exact", 0.2, 0.6, 1.0), ("budget", "jde", 10, 4, "paired", 0.6, 1.0),
    ("plain", "rand1bin", 10, 1, "none"), ("plain", "shade", 10, 10, "none"), ("plain", "jde", 8, 1, "none"),
]  # fmt: skip


def lenet300(form):
    """LeNet-300-100 with its first weights, at 10 times, on 200 images of noise."""
    net = nets.build("lenet300", 0)
    groups = weight_groups(net.params)
    rng = np.random.default_rng(0)
    batch = Batch(rng.random((200, 28, 28, 1), np.float32), rng.integers(10, size=200).astype(np.int32))
    ranks = masks.ranks(scores.magnitude(net.params, groups))
    masked = evosearch.masked_loss(net, groups, ranks, batch, cross_entropy, correct, chunk=30)
    ratios = evosearch.Bounds(np.zeros(len(groups)), np.full(len(groups), 0.98))
    if form == "lenet300 budget":
        return evosearch.budget_loss(masked, 26_000, ratios), evosearch.genome_box(masked.sizes, ratios)
    return evosearch.tolerance(masked, 0.12, 0.02), ratios


def fitness_of(form):
    if form.startswith("lenet300"):
        return lenet300(form)
    masked = evosearch.masked_loss(*make_problem(0), squared, close, chunk=9)
    if form == "budget":
        return evosearch.budget_loss(masked, 70, RATIOS), evosearch.genome_box(SIZES, RATIOS)
    if form == "tolerance":
        return evosearch.tolerance(masked, 1.0, 0.3), RATIOS
    return (lambda genome: jnp.sum((jnp.sin(3 * genome) - 0.3) ** 2) + jnp.prod(genome)), RATIOS


def mesh_of(name):
    if name == "none":
        return None
    shape = tuple(map(int, name.split("x")))
    return jax.sharding.Mesh(np.array(jax.devices()).reshape(shape), evosearch.sharding.AXES)


def searched(case, mesh):
    form, algorithm, population, at_once, race, *shares = case
    fitness, box = fitness_of(form)
    config = evosearch.Config(algorithm, population, 7, at_once=at_once, race=race, fidelity=tuple(shares) or (1.0,))
    result = evosearch.search(jax.random.key(3), config, box, fitness, mesh=mesh)
    found = (result.state.population, result.state.score, result.best, result.score, result.state.memory, result.info)
    return {f"{case}{jax.tree_util.keystr(path)}": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}


if __name__ == "__main__":
    out, cases, *meshes = sys.argv[1:]
    for name in meshes:
        arrays = {}
        for case in ALL if cases == "all" else FEW:
            arrays |= searched(case, mesh_of(name))
        if distributed.is_first():
            np.savez(f"{out}.{name}.npz", **arrays)
