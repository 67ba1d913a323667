"""What a finished ``channels`` run writes: the smaller networks, search_history.csv and the report."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jax_prune import beyond_chance, narrowing, storage, targets
from jax_prune import report as reporting
from jax_prune.evosearch import history
from jax_prune.pruning import costs
from jax_prune.pruning import groups as grouping
from jax_prune.pruning.channel_costs import spent
from jax_prune.studies import options
from jax_prune.studies.channels import DURING, PRESETS, RANKED, Config
from jax_prune.types import Net

if TYPE_CHECKING:
    from jax_prune.studies.channels_run import Run

HISTORY = "search_history.csv"
MODEL = "compact.safetensors"
WAYS = {
    "search": "channels by differential evolution",
    "gates": "channels by trained gates, after Qi et al. 2021",
    "utility": "channels by utility, as Dynamic Channel Propagation",
    "uniform": "one share of every group by L1",
    "uniform_score": "one share of every group by the search's score",
    "global": "L1 over all groups",
    "group_magnitude": "one share of every group by group magnitude",
    "lamp": "LAMP on channels",
}
UNITS = {"macs": "MACs"}
MACS_NOTE = "of the smaller network, as it runs"


def write(run: Run, folder: Path) -> reporting.Report:
    """Writes compact.safetensors of every way, search_history.csv, report.json, report.md and report.html."""
    for way, found in run.ways.items():
        place = folder / MODEL if way == run.config.way else folder / "ways" / way / MODEL
        narrowing.save(
            place, found.net, run.target.groups, found.chosen.flags, options.made_of(run.config), run.example,
            run.config.dataset,
        )  # fmt: skip
    if "search" in run.ways:
        names = [group.name for group in run.target.groups]
        rows = history.rows(run.ways["search"].chosen.arrays, names, names)
        storage.write_text(folder / HISTORY, history.text(rows))
    report = build(run)
    reporting.write(report, folder)
    return report


def build(run: Run) -> reporting.Report:
    """The report of a finished run."""
    config, way = run.config, run.ways[run.config.way]
    steps = config.dense_steps + config.tune_steps
    dense = _side(run, run.dense, "reference", "every weight's products an example", steps)
    networks = {name: _side(run, found.net, f"way:{name}", MACS_NOTE, steps) for name, found in run.ways.items()}
    ways = tuple(_way(run, name, network) for name, network in networks.items())
    pruned = networks[config.way]
    sizes, counts = grouping.sizes(run.target.groups), way.chosen.counts
    start = None
    if config.way not in DURING:
        start = dataclasses.replace(
            dense, error=run.errors["dense"]["test"], validation_error=run.errors["dense"]["validation"],
            steps=config.dense_steps, seconds={},
        )  # fmt: skip
    assert dense.params and pruned.params and dense.weights and pruned.weights
    return reporting.Report(
        study="channels",
        title=f"{config.net} on {config.dataset}: {WAYS[config.way]}",
        dataset=config.dataset,
        seed=config.seed,
        dense=dense,
        start=start,
        pruned=pruned,
        compression=reporting.Compression(weights=dense.weights / pruned.weights, all=dense.params / pruned.params),
        layers=tuple(
            reporting.Layer(group.name, int(size), int(kept), float(1 - kept / size))
            for group, size, kept in zip(run.target.groups, sizes, counts, strict=True)
        ),
        budget=_budget(run, pruned),
        rounds=(_round(run),),
        history=(
            reporting.Point(
                "train" if config.way in DURING else "tune",
                steps,
                pruned.validation_error,
                round=1,
                loss=way.trained.facts["losses"][-1],
            ),
        ),  # fmt: skip
        search=_search(run),
        baselines=reporting.Baselines.of((_round(run),), _outcomes(run)),
        ways=ways,
        latency=None
        if run.model is None
        else reporting.LatencyModel(
            config.latency_batch, len(run.model.seconds), float(np.abs(run.model.errors).mean())
        ),
        command=_command(config),
        config=dataclasses.asdict(config),
        seconds={name: round(seconds, 3) for name, seconds in run.stages.seconds.items()},
        versions=reporting.versions(),
        files={"smaller network": MODEL} | ({"every candidate": HISTORY} if "search" in run.ways else {}),
        notes=_notes(run, ways),
    )


def _side(run: Run, net: Net, name: str, note: str, steps: int) -> reporting.Side:
    counted = costs.parameters(net.params)
    found = run.errors[name]
    return reporting.Side(
        error=found["test"],
        validation_error=found["validation"],
        params=counted.all_total,
        weights=counted.weights_total,
        macs=sum(costs.macs(net, run.example).values()),
        macs_note=note,
        bytes=costs.FLOAT_BYTES * counted.all_total,
        bytes_note="float32 in memory",
        steps=steps,
        seconds=run.seconds[name],
    )


def _way(run: Run, name: str, network: reporting.Side) -> reporting.Way:
    """What one way kept, spent and took."""
    counts, during = run.ways[name].chosen.counts, name in DURING
    spending = []
    for place, (cost, budget) in enumerate(run.target.budgets.items()):
        amounts = (budget, spent(run.target.costs[cost], counts), run.target.whole(cost))
        limit, own, whole = (targets.seconds(cost, amount) for amount in amounts)
        spending.append(reporting.Spending(UNITS.get(cost, cost), limit, own, whole, place == 0))
    taken = [seconds for stage, seconds in run.stages.seconds.items() if stage.startswith(f"ways/{name}/")]
    before = 0.0 if during else run.stages.seconds["dense"]
    before += run.stages.seconds.get("scores", 0.0) if name in RANKED else 0.0
    reasons = zip(run.gated.groups, run.gated.reasons, strict=True) if during and run.gated else ()
    return reporting.Way(
        name, network, tuple(spending), tuple(map(int, counts)), round(before + sum(taken), 3),
        {group.name: reason for group, reason in reasons if reason},
    )  # fmt: skip


def _budget(run: Run, pruned: reporting.Side) -> reporting.Budget | None:
    """The target, and what the smaller network comes to; one of the latency is in the way's spending."""
    ((name, limit), *_) = run.target.budgets.items()
    if name == "latency":
        return None
    reached = {"macs": pruned.macs, "parameters": pruned.params}[name]
    assert reached is not None
    return reporting.Budget(UNITS.get(name, name), limit, reached, reached)


def _round(run: Run) -> reporting.Round:
    found = run.ways[run.config.way]
    facts = found.trained.facts
    searched = found.chosen.facts if run.config.way == "search" else {}
    before = facts.get("validation_before")
    return reporting.Round(
        round=1,
        validation_error_before_tuning=None if before is None else 1 - before,
        validation_error=1 - facts["validation"],
        search_loss=searched.get("loss"),
        baselines={f"{way} counts": loss for way, loss in searched.get("known", {}).items()},
        layers_kept=tuple(map(int, found.chosen.counts)),
    )


def _search(run: Run) -> reporting.Search | None:
    if "search" not in run.ways:
        return None
    chosen, config = run.ways["search"].chosen, run.config
    seen = chosen.arrays
    return reporting.Search(
        algorithm=config.algorithm,
        evaluations=int(seen["evaluated"].sum()),
        population=config.population,
        generations=len(seen["value"]) - 1,
        history=(history.best_so_far(seen),),
        work=(chosen.facts["work"],),
    )


def _outcomes(run: Run) -> tuple[reporting.Outcome, ...]:
    if len(run.ways) < 2:
        return ()
    dense = run.errors["reference"]["test"]
    return tuple(reporting.Outcome(way, run.config.seed, run.errors[f"way:{way}"]["test"], dense) for way in run.ways)


def _command(config: Config) -> str:
    """The command that makes this run, from the nearest preset."""
    return options.command("channels", config, {name: Config.preset(preset=name) for name in PRESETS})


def _unspent(way: reporting.Way) -> str:
    """What to say of a way that leaves more than a hundredth of the target, since an upper bound has no room."""
    target, *bounds = way.spending
    left = 1 - target.spent / target.limit
    if not bounds or left <= 0.01:
        return ""
    names = " and ".join(entry.cost for entry in bounds)
    return f"{way.name}: {left:.1%} of the target is not spent: no channel more fits within the bound of {names} too."


def _overrun(way: reporting.Way, batch: int) -> str:
    """What to say of a way whose call took longer than the limit of the latency, which binds what is predicted."""
    limit = next((entry.limit for entry in way.spending if entry.cost == "latency"), None)
    if limit is None or (taken := way.network.seconds[str(batch)]) <= limit:
        return ""
    measured, limited = f"{1e3 * taken:.3g} ms", f"{1e3 * limit:.3g} ms"
    return f"{way.name}: a call took {measured}; what is limited, at {limited}, is the predicted time."


def _verdict(verdict: beyond_chance.Verdict, floor: float) -> str:
    """Whose counts a search ended with, and why."""
    found, known = verdict.losses[beyond_chance.FOUND], verdict.losses[verdict.against]
    stood = "its own counts" if verdict.kept == beyond_chance.FOUND else f"the counts of {verdict.kept}"
    z, beyond = verdict.z[beyond_chance.FOUND], beyond_chance.BEYOND
    return (
        f"search: {stood} are kept. On {verdict.examples:,} training examples that it did not see, before tuning, "
        f"what it found loses {found:.4g} and {verdict.against}, the best known, {known:.4g}: {z:.1f} standard errors "
        f"less, where more than {beyond:g} is beyond chance. Every group has {floor:.0%} of what uniform leaves it, or "
        "more."
    )


def _notes(run: Run, ways: tuple[reporting.Way, ...]) -> tuple[str, ...]:
    config, notes = run.config, []
    if "gates" in run.ways:
        notes.append("gates: one training to the set rate, after Qi et al. 2021; mechanism and settings are ours.")
    if "utility" in run.ways:
        notes.append(
            "utility: Dynamic Channel Propagation's rule (Shen et al. 2020); that its threshold meets a target exactly "
            "is ours."
        )
    if "search" in run.ways:
        notes.append(_verdict(beyond_chance.Verdict(**run.ways["search"].chosen.facts["verdict"]), config.floor))
    if set(RANKED) <= set(run.ways):
        notes.append(
            f"uniform_score: one share of every group, ranked by {config.score} as in search: what search gains "
            "over it is due to its counts."
        )
    if "group_magnitude" in run.ways:
        notes.append("group_magnitude: Torch-Pruning's importance by its defaults, at the same target.")
    notes += [said for way in ways for said in (_unspent(way), _overrun(way, config.latency_batch)) if said]
    ends = [entry for entry in run.target.frozen if not re.search("network's (in|out)put", entry.reason)]
    if ends:
        names = ", ".join(f"{entry.group.name} ({entry.group.size}: {entry.reason})" for entry in ends[:3])
        notes.append(f"Frozen: {names}{', ...' if len(ends) > 3 else ''}; 'jax-prune groups' lists all.")
    return (*notes, *options.narrowed(config))
