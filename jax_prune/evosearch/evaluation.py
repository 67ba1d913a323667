"""How a fitness of one candidate is evaluated for a population: some at once, the rest in turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.evosearch.score import Score, scalar_score
from jax_prune.evosearch.sharding import Devices
from jax_prune.types import Array, Tree

STATUS = re.compile(r"[A-Z_]+: ")  # how XLA's errors begin: INTERNAL, RESOURCE_EXHAUSTED, ...
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


def some(
    function: Callable[[Tree], Tree], inputs: Tree, asked: Array, at_once: int, otherwise: Tree, devices: Devices
) -> Tree:
    """``lift`` for the entries that are ``asked`` (bool [P], may be traced); the others read ``otherwise`` [P].

    Those asked come first, so that as few bodies run as they fill; ``devices`` take them in turn. A body has
    ``at_once`` entries even where there are fewer.
    """
    length, width = len(asked), at_once
    first, (row, _) = jnp.argsort(~asked), devices.place()

    def body(turn: Array, results: Tree) -> Tree:
        places = (turn * devices.candidates + row) * width + jnp.arange(width)
        chosen = first[places % length]
        found = lift(function, jax.tree.map(lambda leaf: leaf[chosen], inputs), width)
        target = jnp.where(places < length, chosen, length)  # what fills the last body up is dropped
        return jax.tree.map(lambda result, new: result.at[target].set(new, mode="drop"), results, found)

    results = jax.lax.fori_loop(0, devices.turns(-(-asked.sum() // width)), body, otherwise)
    owner = jnp.argsort(first) // width % devices.candidates
    results = jax.tree.map(lambda leaf: leaf[0], devices.picked(results, owner))
    return jax.tree.map(lambda result, other: jnp.where(asked, result, other), results, otherwise)


def evaluate(fitness: Fitness, genomes: Array, at_once: int) -> Score:
    """Scores [P] of genomes [P, G]. Raises BadInput for a fitness that raises or returns no scalar."""
    return lift(partial(scored, fitness), genomes, at_once)


@partial(jax.jit, static_argnames="at_once")
def evaluated(fitness: Fitness, genomes: Array, at_once: int) -> Score:
    """``evaluate``, compiled; the fitness is a pytree (see ``as_pytree``)."""
    return evaluate(fitness, genomes, at_once)


@jax.jit
def decoded(objective: Any, genomes: Array) -> Array:
    """What genomes [..., G] stand for by the objective's ``kept``: counts [..., G]."""
    flat = jax.vmap(objective.kept)(genomes.reshape(-1, genomes.shape[-1]))
    return flat.reshape(*genomes.shape[:-1], -1)


def scored(fitness: Fitness, genome: Array) -> Score:
    """What a fitness says of one genome [G], as float32 scalars."""
    return scalar_score(guarded(fitness)(genome))


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


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with whatever it raises while being traced as one line."""

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BadInput:
            raise
        except Exception as error:
            first_line = str(error).partition("\n")[0]
            raise BadInput(
                f"fitness raised {type(error).__name__} in generation 0: {first_line} (JAX traces it once: "
                "write it with jax.numpy, or wrap other code in jax.pure_callback)"
            ) from error

    return called


@contextmanager
def failing_in(first: int, last: int) -> Iterator[None]:
    """Raises BadInput for what fails while generations ``first`` to ``last`` run, as host callbacks may, or memory."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # from its second call on a program raises ValueError
        if not STATUS.match(str(error)):
            raise
        when = f"generation {first}" if first == last else f"generations {first} to {last}"
        raise BadInput(f"the evaluation failed in {when}: {_cause(str(error))}; mend fitness or data") from error


def _cause(text: str) -> str:
    """Of a traceback in a runtime error its last exception, else the first line."""
    lines = text.strip().splitlines() or [""]
    return next((line for line in reversed(lines) if re.match(r"[A-Za-z_][\w.]*: ", line)), lines[0])


def _fill(leaf: Array, length: int) -> Array:
    surplus = jnp.broadcast_to(leaf[:1], (length - leaf.shape[0], *leaf.shape[1:]))
    return jnp.concatenate([leaf, surplus])
