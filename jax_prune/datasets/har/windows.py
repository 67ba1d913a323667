"""Recordings cut into windows of equal length, each with one activity and one subject.

A window lies within one recording. Its activity is the one of most of its samples, and it is kept when at least the
share ``purity`` of the samples has it and the activity belongs to the scenario.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jax_prune.datasets.har.series import UNLABELLED, Recordings
from jax_prune.errors import BadInput
from jax_prune.types import Batch


class Windows(NamedTuple):
    """N windows: ``x`` float32 [N, T, C], ``y`` int32 [N] (a position in ``activities``), ``subjects`` int32 [N].

    Window n holds the samples ``starts[n]`` to ``starts[n] + T`` of recording ``recordings[n]`` of the set (int32 [N]).
    """

    x: np.ndarray
    y: np.ndarray
    subjects: np.ndarray
    recordings: np.ndarray
    starts: np.ndarray
    activities: tuple[str, ...]
    channels: tuple[str, ...]
    name: str

    @property
    def batch(self) -> Batch:
        """The windows as the package's Batch(x, y)."""
        return Batch(self.x, self.y)

    def take(self, chosen: np.ndarray) -> Windows:
        """The windows that ``chosen`` (bool [N] or positions) names."""
        return self._replace(**{part: getattr(self, part)[chosen] for part in PER_WINDOW})


PER_WINDOW = ("x", "y", "subjects", "recordings", "starts")


def cut(data: Recordings, *, length: int, hop: int, purity: float = 1.0, scenario: str = "all") -> Windows:
    """Windows of ``length`` samples that begin every ``hop`` samples of a recording (a shorter rest is left out).

    ``purity`` in (0, 1]. Activities outside ``scenario`` give no window; ``y`` counts those of the scenario from 0.
    Raises BadInput for settings that fit nothing, and where a subject who takes part would be left without a window.
    """
    if length < 1 or hop < 1 or not 0 < purity <= 1:
        raise BadInput(f"windows of length {length}, hop {hop}, purity {purity}: needed are 1, 1 and (0, 1] at least")
    if scenario not in data.scenarios:
        raise BadInput(f"{data.name} has no scenario '{scenario}'; choose from {', '.join(data.scenarios)}")
    names = data.scenarios[scenario]
    parts = [_cut_one(index, data, names, length, hop, purity) for index in range(len(data.recordings))]
    x, y, subjects, recordings, starts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    windows = Windows(x, y, subjects, recordings, starts, names, data.channels, data.name)
    _check_subjects(windows, data, f"of {length} samples, purity {purity}, in scenario {scenario}")
    return windows


def _cut_one(
    index: int, data: Recordings, names: tuple[str, ...], length: int, hop: int, purity: float
) -> tuple[np.ndarray, ...]:
    samples, activity, subject = data.recordings[index]
    starts = np.arange(0, len(samples) - length + 1, hop, dtype=np.int32)
    most, count = _most_frequent(activity, len(data.activities), starts, length)
    labels = _positions(data.activities, names)[most]
    kept = (labels != UNLABELLED) & (count / length >= purity)
    starts, labels = starts[kept], labels[kept]
    x = np.empty((len(starts), length, samples.shape[1]), np.float32)
    if len(starts):
        x[:] = sliding_window_view(samples, length, axis=0)[starts].transpose(0, 2, 1)
    return x, labels, np.full_like(labels, subject), np.full_like(labels, index), starts


def _most_frequent(activity: np.ndarray, kinds: int, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The commonest activity of each window (the first of several, UNLABELLED before all) and its count."""
    seen = np.zeros((len(activity) + 1, kinds + 1), np.int32)
    np.cumsum(activity[:, None] == np.arange(UNLABELLED, kinds), axis=0, out=seen[1:])
    counts = seen[starts + length] - seen[starts]
    return counts.argmax(axis=1) + UNLABELLED, counts.max(axis=1)


def _positions(activities: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """int32 [K + 1]: where each activity stands in ``names``; the last entry is the one of UNLABELLED (-1)."""
    found = [names.index(each) if each in names else UNLABELLED for each in activities]
    return np.array([*found, UNLABELLED], np.int32)


def _check_subjects(windows: Windows, data: Recordings, what: str) -> None:
    """Nobody may be lost unnoticed; only whose activities are all outside the scenario has no part in it."""
    positions = _positions(data.activities, windows.activities)
    excused = set(data.subjects) - {each.subject for each in data.recordings if _takes_part(each.activity, positions)}
    missing = sorted(set(data.subjects) - set(windows.subjects.tolist()) - excused)
    if missing:
        raise BadInput(
            f"{data.name}: subject(s) {', '.join(map(str, missing))} have no window {what}; use shorter windows, "
            "a lower purity, or leave their recordings out"
        )


def _takes_part(activity: np.ndarray, positions: np.ndarray) -> bool:
    return bool((activity == UNLABELLED).all() or (positions[activity] != UNLABELLED).any())
