"""What a candidate is worth: feasibility first, then value; lower is better, and NaN never wins."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.types import Array

ADVICE = "return one number for one candidate [G], or Score(value, violation)"


class Score(NamedTuple):
    """Float32 of one shape: [] for one candidate, [P] for a population.

    ``violation`` is by how much a constraint is missed (0: feasible); it is compared first, and ``value``
    decides among equals (Deb 2000).
    """

    value: Array
    violation: Array


def better(left: Score, right: Score) -> Array:
    """Whether ``left`` is at least as good as ``right``, entry by entry: bool."""
    lower = left.violation < right.violation
    return lower | ((left.violation == right.violation) & (left.value <= right.value))


def finite(score: Score) -> Array:
    """Whether a candidate could be scored at all: bool."""
    return jnp.isfinite(score.value) & jnp.isfinite(score.violation)


def index_of_best(score: Score) -> Array:
    """Index of the best entry of a score [P]; the first among equals."""
    least = score.violation == jnp.min(score.violation)
    value = jnp.where(least, score.value, jnp.inf)
    return jnp.argmax(least & (value == jnp.min(value)))


def order(score: Score) -> Array:
    """Indices int [P] from the best to the worst; equals in ascending order."""
    return jnp.lexsort((score.value, score.violation))


def gain(before: Score, after: Score) -> Array:
    """By how much ``after`` is better, in violation where that differs, else in value; 0 where it is not.

    Where nothing finite stood before, any finite score is a gain of 1.
    """
    difference = jnp.where(
        before.violation == after.violation, before.value - after.value, before.violation - after.violation
    )
    difference = jnp.where(finite(before), difference, 1.0)
    return jnp.where(finite(after), jnp.maximum(difference, 0.0), 0.0)


def worst(population: int) -> Score:
    """What nothing has been evaluated for: +inf [P]."""
    return Score(jnp.full(population, jnp.inf, jnp.float32), jnp.full(population, jnp.inf, jnp.float32))


def scalar_score(returned: Any) -> Score:
    """What a fitness returned for one candidate as a Score of float32 scalars; +inf where either is not
    finite.

    Raises BadInput, while the first generation is being traced, for anything but a real scalar or a Score of
    two.
    """
    value, violation = returned if isinstance(returned, Score) else (returned, 0.0)
    return or_worst(Score(real(value, "value", 0, ADVICE), real(violation, "violation", 0, ADVICE)))


def or_worst(score: Score) -> Score:
    """+inf where either part is not finite."""
    return jax.tree.map(lambda part: jnp.where(finite(score), part, jnp.inf), score)


def real(returned: Any, what: str, axes: int, advice: str) -> Array:
    """What a fitness returned as ``what``, float32 with so many ``axes``. Raises BadInput for anything else."""
    leaves, kind = jax.tree.leaves(returned), type(returned).__name__
    if len(leaves) != 1 or leaves[0] is not returned:
        raise BadInput(f"fitness returned a {kind} as {what} in generation 0: {advice}")
    try:
        array = jnp.asarray(returned)
    except TypeError as error:
        raise BadInput(f"fitness returned a {kind} as {what} in generation 0: {advice}") from error
    if array.ndim != axes or not array.size or not jnp.issubdtype(array.dtype, jnp.number) or jnp.iscomplexobj(array):
        raise BadInput(f"fitness returned {array.dtype}{list(array.shape)} as {what} in generation 0: {advice}")
    return array.astype(jnp.float32)
