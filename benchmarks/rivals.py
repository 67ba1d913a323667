"""The peers of search_functions.py, each with its own defaults at the same population and number of evaluations.

Every rival: ``run(problem, population, generations, seed) -> best vector found [G]``, ``generations`` beside the
initial one. Constraints are handled as each library does, where it does; elsewhere the value is raised by PENALTY
times the violation.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from evosax.algorithms import DifferentialEvolution
from problems import Problem
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.core.problem import ElementwiseProblem
from pymoo.operators.sampling.lhs import LHS
from pymoo.optimize import minimize
from scipy.optimize import NonlinearConstraint, differential_evolution

PENALTY = 1e3


def scipy_de(problem: Problem, population: int, generations: int, seed: int) -> np.ndarray:
    """best1bin, mutation (0.5, 1), recombination 0.7, immediate updating; not polished, never stopped early."""
    constrained = problem.name.startswith("pruning")
    constraint = NonlinearConstraint(lambda x: problem.function(np, x)[1], -np.inf, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the number of generations was reached
        found = differential_evolution(
            lambda x: problem.function(np, x)[0],
            list(zip(problem.lower, problem.upper, strict=True)),
            init=_latin_hypercube(problem, population, seed),
            maxiter=generations,
            tol=0,
            polish=False,
            rng=np.random.default_rng(seed),
            constraints=(constraint,) if constrained else (),
        )
    return found.x


def pymoo_de(problem: Problem, population: int, generations: int, seed: int) -> np.ndarray:
    """DE/best/1/bin as pymoo sets it; feasible candidates first."""

    class Adapted(ElementwiseProblem):
        def __init__(self) -> None:
            size = len(problem.lower)
            super().__init__(n_var=size, n_obj=1, n_ieq_constr=1, xl=problem.lower, xu=problem.upper)

        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
            out["F"], out["G"] = problem.function(np, x)

    algorithm = DE(pop_size=population, sampling=LHS())
    found = minimize(Adapted(), algorithm, ("n_eval", population * (generations + 1)), seed=seed)
    assert found.algorithm.evaluator.n_eval == population * (generations + 1), found.algorithm.evaluator.n_eval
    return np.asarray(found.X if found.X is not None else found.pop[0].X, float)


def evosax_de(problem: Problem, population: int, generations: int, seed: int) -> np.ndarray:
    """evosax's DifferentialEvolution with its defaults, clipped to the box."""
    first = jnp.asarray(_latin_hypercube(problem, population, seed), jnp.float32)
    box = jnp.asarray(problem.lower), jnp.asarray(problem.upper)
    return np.asarray(_loop(problem.function, generations, jax.random.key(seed), first, *box))


def _latin_hypercube(problem: Problem, population: int, seed: int) -> np.ndarray:
    rng, length = np.random.default_rng(1000 + seed), len(problem.lower)
    slices = np.stack([rng.permutation(population) for _ in range(length)], axis=1)
    unit = (slices + rng.uniform(size=slices.shape)) / population
    return problem.lower + unit * (problem.upper - problem.lower)


@partial(jax.jit, static_argnames=("function", "generations"))
def _loop(
    function: Any, generations: int, key: jax.Array, first: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    strategy = DifferentialEvolution(population_size=len(first), solution=jnp.zeros(first.shape[1]))
    params = strategy.default_params

    def fitness(x: jax.Array) -> jax.Array:
        value, violation = function(jnp, x)
        return value + PENALTY * violation

    def generation(state: Any, key: jax.Array) -> tuple[Any, None]:
        asked, state = strategy.ask(key, state, params)
        asked = jnp.clip(asked, lower, upper)
        state, _ = strategy.tell(key, asked, jax.vmap(fitness)(asked), state, params)
        return state, None

    state = strategy.init(key, first, jax.vmap(fitness)(first), params)
    state, _ = jax.lax.scan(generation, state, jax.random.split(key, generations))
    return state.best_solution


RIVALS = {"scipy DE": scipy_de, "evosax DE": evosax_de, "pymoo DE": pymoo_de}
