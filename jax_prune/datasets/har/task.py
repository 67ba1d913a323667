"""A recognition task: which recordings, how they are cut, who tests. Kept beside a network, to measure it again.

task = Task("hapt", scenario="basic", test=(22, 23, 24), validation=(20, 21))
fold = task.fold(data_dir)            # fold.splits.train, fold.scaling: what the network has to be fed with
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax_prune import settings
from jax_prune.datasets.har.protocols import Fold, held_out_subjects
from jax_prune.datasets.har.sets import load
from jax_prune.datasets.har.windows import Windows, cut
from jax_prune.errors import BadInput


class Task(NamedTuple):
    """Windows of the set ``name`` (see ``cut``), the subjects ``test`` held out and ``validation`` to choose by."""

    name: str = "watch"
    scenario: str = "all"
    length: int = 128
    hop: int = 64
    purity: float = 1.0
    test: tuple[int, ...] = (8, 9, 10)
    validation: tuple[int, ...] = (7,)

    def windows(self, data_dir: str | os.PathLike[str] | None = None) -> Windows:
        """All windows. Raises BadInput as ``load`` and ``cut``."""
        data = load(self.name, data_dir=data_dir)
        return cut(data, length=self.length, hop=self.hop, purity=self.purity, scenario=self.scenario)

    def fold(self, data_dir: str | os.PathLike[str] | None = None) -> Fold:
        """The windows by use, standardised. Raises BadInput as ``windows`` and ``split``."""
        return self.split(self.windows(data_dir))

    def split(self, windows: Windows) -> Fold:
        """All ``windows`` of the task by use, standardised. Raises BadInput as ``held_out_subjects``."""
        return held_out_subjects(windows, self.test, validation=self.validation)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Task:
        """The task that ``_asdict()`` wrote, from JSON. Raises BadInput for other entries and kinds of values."""
        if set(facts) != set(cls._fields):
            raise BadInput(f"a task has the entries {', '.join(cls._fields)}, and was given {', '.join(facts)}")
        entries: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
        }
        task = cls(**entries)
        settings.check(task, "task: ")
        return task
