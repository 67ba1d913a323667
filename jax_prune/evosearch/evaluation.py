"""How a fitness of one candidate is evaluated for a population: some at once, the rest in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.evosearch.score import Score, scalar_score
from jax_prune.types import Array, Tree

Fitness = Callable[[Array], Any]  # genome [G] -> scalar, or Score of scalars


def lift(function: Callable[[Tree], Tree], inputs: Tree, at_once: int) -> Tree:
    """``function`` of every entry along the leading axis [P] of ``inputs``; results have leading axis P.

    Traces ``function`` once. ``at_once`` entries share one fixed body (a vmap), the bodies run in turn; where
    ``at_once`` does not divide P the last body is filled up with entry 0 again and the surplus is dropped.
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    width = min(at_once, length)
    if width == 1:
        return jax.lax.map(function, inputs)
    if width == length:
        return jax.vmap(function)(inputs)
    bodies = -(-length // width)
    stacked = jax.tree.map(lambda leaf: _fill(leaf, bodies * width).reshape(bodies, width, *leaf.shape[1:]), inputs)
    results = jax.lax.map(jax.vmap(function), stacked)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:length], results)


def evaluate(
    fitness: Fitness, genomes: Array, at_once: int, read: Callable[[Any], Tree] = scalar_score
) -> Score | Tree:
    """Scores [P] of genomes [P, G], or what ``read`` makes of one candidate's result, with leading axis P.

    Raises BadInput for a fitness that raises or returns what cannot be read, by default no scalar.
    """
    return lift(lambda genome: read(_call(fitness, genome)), genomes, at_once)


def as_pytree(fitness: Fitness) -> Fitness:
    """The fitness with every array in it an argument of the compiled program, so that new ones never
    recompile.

    A plain function is wrapped whole: what it closes over is compiled in as constants. For large data give a
    ``jax.tree_util.Partial(function, data, ...)`` or a flax.struct dataclass instead.
    """
    if not callable(fitness):
        raise BadInput(f"fitness is a {type(fitness).__name__}: give a function of one candidate [G]")
    if jax.tree_util.all_leaves([fitness]):
        return jax.tree_util.Partial(fitness)
    return jax.tree.map(_settled, fitness)


def _settled(leaf: Any) -> Array:
    """A device array whose type does not depend on how the caller wrote it (a Python 3, a NumPy 3, ...)."""
    if isinstance(leaf, jax.Array) and not leaf.weak_type:
        return leaf
    return jnp.asarray(leaf, dtype=jnp.result_type(leaf))


def _call(fitness: Fitness, genome: Array) -> Any:
    try:
        return fitness(genome)
    except BadInput:
        raise
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(
            f"fitness raised {type(error).__name__} in generation 0: {first_line} (JAX traces it once: "
            "write it with jax.numpy, or wrap other code in jax.pure_callback)"
        ) from error


def _fill(leaf: Array, length: int) -> Array:
    surplus = jnp.broadcast_to(leaf[:1], (length - leaf.shape[0], *leaf.shape[1:]))
    return jnp.concatenate([leaf, surplus])
