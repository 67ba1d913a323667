"""What the settings of ``channels`` stand for, and whether they can: without a net or data."""

from __future__ import annotations

from functools import partial

import optax

from jax_prune import evosearch, learning, narrowing, targets
from jax_prune.errors import BadInput
from jax_prune.learning import Recipe
from jax_prune.studies import options
from jax_prune.studies.channels import DURING, Config

WAYS = ("search", *DURING, "uniform_score", *narrowing.STATIC)
OPTIMIZERS = {"adam": optax.scale_by_adam, "sgd": partial(optax.trace, decay=0.9)}
AUGMENTATIONS: dict[str, learning.Augmentation | None] = {
    "none": None,
    "shift": learning.RandomShift(1),
    "crop_and_flip": learning.CROP_AND_FLIP,
}
MACS = 0.25  # the share that may stay where none of anything is given


def shares_of(config: Config) -> dict[str, float]:
    """The shares that may stay, the target first."""
    given = (config.macs, config.parameters, config.latency)
    macs = MACS if given == (None, None, None) else config.macs
    return targets.shares(macs, config.parameters, config.latency, config.target)


def check(config: Config) -> None:
    """Raises BadInput for settings that no net or data could mend."""
    for way in config.ways:
        if way not in WAYS:
            raise BadInput(f"unknown way '{way}': known are {', '.join(WAYS)}")
    if config.score not in narrowing.SCORES:
        raise BadInput(f"unknown score '{config.score}': known are {', '.join(narrowing.SCORES)}")
    least = {"dense_steps": 1, "tune_steps": 1, "batch_size": 1, "calibration": 1, "round_to": 1, "latency_batch": 1,
             "seed": 0, "learning_rate": 0, "tune_rate": 0, "weight_decay": 0}  # fmt: skip
    options.at_least(config, least)
    options.above_zero(config, ("width", "memory"))
    for name in ("dense_steps", "tune_steps"):
        if getattr(config, name) % learning.CHUNK:
            raise BadInput(f"{name} is {getattr(config, name)}: give a multiple of {learning.CHUNK}")
    targets.check_floor(config.floor)
    shares_of(config)
    recipe_of(config)
    search_of(config)


def recipe_of(config: Config, share: float = 1.0) -> Recipe:
    """Of all training, at a ``share`` of the peak rate."""
    if config.optimizer not in OPTIMIZERS:
        raise BadInput(f"unknown optimizer '{config.optimizer}': known are {', '.join(OPTIMIZERS)}")
    if config.augment not in AUGMENTATIONS:
        raise BadInput(f"unknown augmentation '{config.augment}': known are {', '.join(AUGMENTATIONS)}")
    return Recipe(
        direction=OPTIMIZERS[config.optimizer],
        learning_rate=config.learning_rate * share,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        augment=AUGMENTATIONS[config.augment],
        coupled=config.optimizer == "sgd",
    )


def memory_of(config: Config) -> int:
    """Bytes that a search may hold in all."""
    return int(config.memory * 2**30)


def search_of(config: Config) -> evosearch.Config:
    """Of the search."""
    return evosearch.Config(config.algorithm, config.population, config.generations, chunk=5)
