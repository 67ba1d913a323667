"""The files of a ``har`` run: pruned networks that say what they are fed with, and so can be measured again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jax_prune import narrowing
from jax_prune.deploy import packed
from jax_prune.studies import har_settings
from jax_prune.studies.har_ladders import Pruned

if TYPE_CHECKING:
    from jax_prune.studies.har_run import Run

NAMES = {"weights": "model.jaxprune", "hidden": "compact.safetensors"}  # of the rungs that are shown first


def place(rung: Pruned, folder: Path) -> Path:
    """Where a rung's network is written."""
    return folder / "pruned" / f"{rung.net}_{rung.way}_{rung.removed:g}{Path(NAMES[rung.way]).suffix}"


def save(run: Run, rung: Pruned, path: Path) -> int:
    """The first seed's net with its task and scaling, so that it can be fed and measured again; bytes on disk."""
    config, fold, net = run.config, run.fold, rung.nets[0]
    windows = fold.train
    made = har_settings.made_of(config, rung.net, config.seed, windows.x.shape[2], len(windows.activities))
    fed = {
        "task": har_settings.task_of(config)._asdict(),
        "activities": list(windows.activities),
        "scaling": {name: value.tolist() for name, value in fold.scaling._asdict().items()},
    }
    if rung.way == "weights":
        sizes = {name: value for name, value in made.items() if name not in ("name", "seed")}
        spec = {"net": rung.net, "dataset": config.dataset, "options": sizes, "task": fed["task"]}
        return packed.write_packed(path, spec, net.params, net.state, rung.masks[0], {"seed": config.seed} | fed)
    return narrowing.save(path, net, rung.groups, rung.flags[0], made, windows.x[:1], config.dataset, fed)
