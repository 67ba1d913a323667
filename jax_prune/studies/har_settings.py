"""What the settings of ``har`` stand for, and whether they can: without data."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax_prune import evosearch, learning, nets
from jax_prune.datasets.har import NAMES, Scaling, Task, Windows
from jax_prune.errors import BadInput
from jax_prune.learning import Distillation, ExampleFunction, Recipe
from jax_prune.plan import Plan, check_settings
from jax_prune.studies import options
from jax_prune.studies.har import NETS, Config
from jax_prune.types import Net


def check(config: Config) -> None:
    """Raises BadInput for settings that no data could mend."""
    if config.dataset not in NAMES:
        raise BadInput(f"unknown dataset '{config.dataset}': known are {', '.join(NAMES)}")
    if unknown := [name for name in config.nets if name not in NETS]:
        raise BadInput(f"unknown net '{unknown[0]}': known are {', '.join(NETS)}")
    if not config.nets or len(set(config.nets)) < len(config.nets):
        raise BadInput(f"nets are '{','.join(config.nets)}': give one at least, and each once")
    options.at_least(
        config,
        {"seeds": 1, "seed": 0, "units": 1, "filters": 1, "dense_steps": 1, "tune_steps": 1, "batch_size": 1,
         "prune": 0, "weight_decay": 0, "noise": 0, "stretch": 0, "turn": 0, "dropout": 0, "calibration": 1,
         "tolerance": 0, "at_once": 0},
    )  # fmt: skip
    options.above_zero(config, ("learning_rate", "tune_rate", "temperature"))
    for name in ("dense_steps", "tune_steps"):
        if getattr(config, name) % learning.CHUNK:
            raise BadInput(f"{name} is {getattr(config, name)}: give a multiple of {learning.CHUNK}")
    if not config.dropout < 1 or not 0 <= config.distillation <= 1:
        raise BadInput(f"dropout {config.dropout}, distillation {config.distillation}: give [0, 1) and [0, 1]")
    if config.prune > len(config.nets):
        raise BadInput(f"prune is {config.prune}: there are {len(config.nets)} networks")
    if config.prune and not config.rungs:
        raise BadInput("weights and hidden are empty: give a ladder, or prune=0 to train alone")
    for name, shares in (("weights", config.weights), ("hidden", config.hidden)):
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise BadInput(f"{name} is {','.join(map(str, shares))}: give rising shares above 0 and below 1")
    for share in config.weights:
        check_settings(plan_of(config, share))


def task_of(config: Config) -> Task:
    """What is recognised, and on whom."""
    return Task(
        config.dataset, config.scenario, config.length, config.hop, config.purity, config.test_subjects,
        config.validation_subjects,
    )  # fmt: skip


def recipe_of(config: Config, scaling: Scaling, share: float = 1.0) -> Recipe:
    """Of all training, at a ``share`` of the peak rate, on windows standardised by the ``scaling``."""
    handled = learning.Handling(
        config.noise, config.stretch, config.turn, tuple(scaling.mean.tolist()), tuple(scaling.deviation.tolist())
    )
    return Recipe(
        learning_rate=config.learning_rate * share,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        augment=handled if handled.changes else None,
    )


def plan_of(config: Config, removed: float, recipe: Recipe | None = None, at_once: int = 0) -> Plan:
    """One rung of the ladder of weights: the share ``removed`` of them goes in one round."""
    return Plan(
        compression=1 / (1 - removed),
        rounds=1,
        biases=False,  # few, and what is removed is to be the share of weights that is said
        final_steps=config.tune_steps,
        baselines=False,
        search=evosearch.Config("best1bin", config.population, config.generations, chunk=5, race="exact"),
        calibration=config.calibration,
        recipe=recipe or Recipe(),
        distillation=config.distillation,
        temperature=config.temperature,
        at_once=at_once,
    )


def loss_of(config: Config) -> ExampleFunction:
    """Of tuning: distils where that has a weight."""
    if not config.distillation:
        return learning.cross_entropy
    return Distillation(learning.cross_entropy, config.distillation, config.temperature)


def made_of(config: Config, name: str, seed: int, features: int, classes: int) -> dict[str, Any]:
    """The arguments of ``nets.build`` for one of the networks."""
    sizes = {"units": config.units, "dropout": config.dropout, "features": features, "num_classes": classes}
    return {"name": name, "seed": seed} | sizes | ({"filters": config.filters} if name.startswith("cnn") else {})


def built(config: Config, name: str, windows: Windows, seed: int) -> Net:
    """The network ``name``, untrained, for such windows."""
    return nets.build(**made_of(config, name, seed, windows.x.shape[2], len(windows.activities)))


def seeds_of(config: Config) -> range:
    """The seeds of every training."""
    return range(config.seed, config.seed + config.seeds)


def settings_of(config: Config) -> dict[str, Any]:
    """All settings, for the run's folder."""
    return {"study": "har"} | dataclasses.asdict(config)
