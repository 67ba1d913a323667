"""How ``layerwise`` runs: data and net in, every stage, the test split once, the report out."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_prune import datasets, evosearch, learning, nets
from jax_prune.compress import compress
from jax_prune.errors import BadInput
from jax_prune.fitting import check_fit
from jax_prune.learning import Recipe
from jax_prune.plan import Plan, check_settings, checked, tuning_steps
from jax_prune.pruning.groups import Rule
from jax_prune.report import Report
from jax_prune.stages import Stage, Stages, locked, refuse_other, stage_key
from jax_prune.studies import layerwise_front, layerwise_report, measuring, options
from jax_prune.studies.layerwise import Config
from jax_prune.types import Array, Net

SEEDS_APART = 10_000  # between the initial weights of a committee's members
OPTIMIZERS = {"adam": optax.scale_by_adam, "sgd": partial(optax.trace, decay=0.9, nesterov=True)}


def run(config: Config, workdir: str) -> Report:
    """The whole study; see ``layerwise.run``."""
    settings = {"study": "layerwise"} | dataclasses.asdict(config)
    refuse_other(workdir, settings)
    plan, splits, net = examined(config)
    key = jax.random.key(config.seed)
    with locked(workdir):
        stages = Stages(workdir, settings)  # claims the folder: nothing refused so far left anything in it
        members = [trained(key, config, number, splits, stages) for number in range(config.members)]
        dense, teacher = members[0], nets.committee(members)
        reference = trained(key, config, 0, splits, stages, "reference", config.all_dense_steps + tuning_steps(plan))
        compressed = compress(key, dense, splits.train, splits.validation, plan, teacher=teacher, stages=stages)
        alike = dataclasses.replace(plan, baselines=False, at_once=compressed.rounds[0].search.facts["at_once"])
        front = layerwise_front.trade_off(key, config.trade_off, alike, dense, splits, stages)
        rivals = {
            name: compress(
                key, dense, splits.train, splits.validation, dataclasses.replace(alike, allocation=name),
                teacher=teacher, stages=stages.within(f"allocations/{name}"),
            )
            for name in rivals_of(config)
        }  # fmt: skip
        candidates = {"dense": dense, "reference": reference, "pruned": compressed.net}
        candidates |= {f"allocation:{name}": rival.net for name, rival in rivals.items()}
        errors = stages("errors", partial(measuring.measure, candidates, splits, config.test)).facts
        return layerwise_report.write(config, Path(workdir), dense, compressed, rivals, errors, stages, splits, front)


def examined(config: Config) -> tuple[Plan, datasets.Splits, Net]:
    """The plan, the data and the untrained net. Raises BadInput for whatever of the config cannot be done."""
    plan = check(config)
    splits = datasets.load(config.dataset, data_dir=config.data_dir)
    net = nets.build(**options.made_of(config))
    check_fit(net, splits.train, learning.cross_entropy, learning.correct, config.dataset, plan.recipe.augment)
    checked(plan, net, splits.train.x[:1])
    learning.check_answers(net, splits.train, plan.recipe.augment, plan.neighbour_weight)
    return plan, splits, net


def check(config: Config) -> Plan:
    """The plan. Raises BadInput for settings of it, or of the rivals', that no net or data could mend."""
    plan = plan_of(config)
    for name in (plan.allocation, *rivals_of(config)):
        check_settings(dataclasses.replace(plan, allocation=name))
    return plan


def rivals_of(config: Config) -> list[str]:
    """The allocations that ``compare`` names."""
    return [name.strip() for name in config.compare.split(",") if name.strip()]


def plan_of(config: Config) -> Plan:
    """The compression plan that a config's flags describe. Raises BadInput for rules that do not read."""
    if config.taught_shift > config.shift and config.distillation != 1:
        raise BadInput(
            f"taught_shift={config.taught_shift} would show labelled images that dense training never saw; "
            "set distillation=1, or shift to the same"
        )
    _check_ranges(config)
    shift = max(config.shift, config.taught_shift)
    search = evosearch.Config(
        config.algorithm, config.population, config.generations, chunk=5, race=config.race,
        confidence=config.confidence, fidelity=config.fidelity,
    )  # fmt: skip
    return Plan(
        compression=config.compression,
        tolerance=config.tolerance,
        max_macs=config.max_macs,
        max_bytes=config.max_bytes,
        rounds=config.rounds,
        front=config.front,
        round_steps=config.round_steps,
        final_steps=config.final_steps,
        score=config.score,
        biases=config.biases,
        rules=parse_rules(config.rules),
        allocation=config.allocation,
        search=search,
        audit=config.audit,
        calibration=config.calibration,
        sensitivity=config.sensitivity,
        at_once=config.at_once,
        precision=config.precision,
        memory=int(config.memory * 2**30),
        recipe=recipe_of(config, config.tune_rate, shift, config.taught_share),
        distillation=config.distillation,
        temperature=config.temperature,
        neighbour_weight=config.neighbour_weight if shift and config.distillation else 0.0,
        recovery=config.recovery,
        recovery_until=config.recovery_until,
        recovery_rate=config.recovery_rate,
    )


def _check_ranges(config: Config) -> None:
    """Raises BadInput for settings of the study itself that are out of range; ``compress`` checks the plan's."""
    least = {"committee": 1, "dense_steps": 1, "dense_rate": 0, "weight_decay": 0, "shift": 0, "taught_shift": 0}
    options.at_least(config, {**least, "seed": 0, "trade_off": 0})
    if not 0 <= config.taught_share <= 1:
        raise BadInput(f"taught_share is {config.taught_share}: give 0 to 1")
    options.above_zero(config, ("width", "memory"))
    if config.trained and ":" not in config.net:
        raise BadInput(f"'{config.net}' does not come trained; --config.trained is for package.module:factory")
    if config.seed >= 2**31:
        raise BadInput(f"seed is {config.seed}: give less than {2**31}")


def recipe_of(config: Config, rate: float, shift: int, share: float = 0.5) -> Recipe:
    """Dense training and tuning share all but the rate and what the dense net is asked about."""
    if config.optimizer not in OPTIMIZERS:
        raise BadInput(f"unknown optimizer '{config.optimizer}': known are {', '.join(OPTIMIZERS)}")
    augment = learning.RandomShift(shift, share) if shift else None
    return Recipe(
        direction=OPTIMIZERS[config.optimizer],
        learning_rate=rate,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        augment=augment,
    )


def trained(
    key: Array,
    config: Config,
    number: int,
    splits: datasets.Splits,
    stages: Stages,
    name: str = "dense",
    steps: int | None = None,
) -> Net:
    """The committee's member ``number`` after dense training, as a stage; as it is where it came trained.

    Member 0 is the net that is pruned, and the one that the reference trains for longer.
    """
    net = nets.build(**options.made_of(config) | {"seed": config.seed + SEEDS_APART * number})
    if config.trained:
        return net
    name = f"{name}_{number + 1}" if number else name
    steps = config.dense_steps if steps is None else steps

    def compute() -> Stage:
        result = learning.train(
            stage_key(key, name), net, jax.device_put(splits.train), recipe_of(config, config.dense_rate, config.shift),
            loss=learning.cross_entropy, steps=steps, title=f"{name.replace('_', ' ')} training",
        )  # fmt: skip
        (accuracy,) = learning.evaluate(result.net, splits.validation, learning.correct)
        facts = {"validation": accuracy, "losses": [float(loss) for loss in result.losses]}
        facts["steps"] = learning.chunks_of(steps) * learning.CHUNK
        return Stage({"params": result.net.params, "state": result.net.state}, facts)

    arrays = jax.tree.map(jnp.asarray, stages(name, compute).arrays)
    return net.replace(params=arrays["params"], state=arrays["state"])


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Rules as the flag writes them, ';' between: PATTERN:frozen, PATTERN:lower=0.1,upper=0.9, PATTERN:block=4x1.

    The settings are the fields of ``Rule``.
    """
    return tuple(_rule(part.strip()) for part in text.split(";") if part.strip())


def _rule(text: str) -> Rule:
    read = re.fullmatch(r"(.+):((?:frozen|\w+=).*)", text)  # a pattern may hold colons, and so may nm
    pattern, settings = read.groups() if read else ("", "")
    convert: dict[str, Any] = {
        "frozen": lambda _: True, "lower": float, "upper": float, "group": str, "tied": str, "round_to": int,
        "nm": str, "block": _sides, "inputs": int,
    }  # fmt: skip
    pairs = [setting.strip().partition("=") for setting in settings.split(",")]
    try:
        fields = {name: convert[name](value) for name, _, value in pairs}
    except (KeyError, ValueError):
        fields = {}
    if not pattern or not fields:
        raise BadInput(
            f"rule '{text}' does not read: write PATTERN:SETTINGS, of frozen, lower=0.1, upper=0.9, group=NAME, "
            "tied=NAME, round_to=8, nm=2:4, block=4x1, inputs=1, with commas between"
        )
    return Rule(pattern, **fields)


def _sides(text: str) -> tuple[int, int]:
    rows, columns = map(int, text.split("x"))
    return rows, columns
