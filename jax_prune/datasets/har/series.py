"""Recordings of sensors worn by people, and what they are recordings of.

Lengths used in this folder:  S samples of a recording   C channels   N windows   T samples of a window   K activities
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jax_prune.errors import BadInput

UNLABELLED = -1


class Recording(NamedTuple):
    """One stretch of samples without a gap, of one person.

    ``samples`` float32 [S, C]; ``activity`` int32 [S], a position in the set's ``activities`` or UNLABELLED (-1).
    """

    samples: np.ndarray
    activity: np.ndarray
    subject: int


class Recordings(NamedTuple):
    """A set of recordings. ``scenarios`` name the activities of a task; "all" is always there.

    ``activities`` K names, ``channels`` C names with units, ``rate`` in Hz, common to all recordings.
    """

    recordings: tuple[Recording, ...]
    activities: tuple[str, ...]
    channels: tuple[str, ...]
    rate: float
    scenarios: Mapping[str, tuple[str, ...]]
    name: str

    @property
    def subjects(self) -> tuple[int, ...]:
        """The people recorded, in ascending order."""
        return tuple(sorted({each.subject for each in self.recordings}))


def gather(
    recordings: Sequence[Recording],
    *,
    activities: Sequence[str],
    channels: Sequence[str],
    rate: float,
    scenarios: Mapping[str, Sequence[str]] | None = None,
    name: str = "data",
) -> Recordings:
    """A checked set, a user's own or a published one; samples become float32, activities int32.

    Raises BadInput, with recording and sample, for samples that are not numbers [S, C], NaN or infinity, an activity
    for each sample lacking or unknown, a rate that is not above 0, scenarios of unknown activities, and no recording.
    """
    data = Recordings(
        tuple(_narrow(each, f"{name}: recording {index}") for index, each in enumerate(recordings)),
        tuple(activities),
        tuple(channels),
        float(rate),
        {"all": tuple(activities), **{key: tuple(names) for key, names in (scenarios or {}).items()}},
        name,
    )
    _check(data)
    return data


def with_channels(data: Recordings, channels: Sequence[str]) -> Recordings:
    """The set with these channels alone, in this order. Raises BadInput for a channel that it does not have."""
    unknown = [channel for channel in channels if channel not in data.channels]
    if unknown or not channels:
        what = f"no channel '{unknown[0]}'" if unknown else "to keep one channel at least"
        raise BadInput(f"{data.name} has {what}; choose from {', '.join(data.channels)}")
    columns = [data.channels.index(channel) for channel in channels]
    kept = tuple(each._replace(samples=each.samples[:, columns]) for each in data.recordings)
    return data._replace(recordings=kept, channels=tuple(channels))


def _narrow(recording: Recording, where: str) -> Recording:
    samples, activity = np.asarray(recording.samples), np.asarray(recording.activity)
    if samples.dtype.kind not in "iuf" or activity.dtype.kind not in "iu":
        raise BadInput(
            f"{where} has samples {samples.dtype} and activities {activity.dtype}; give real numbers and integers"
        )
    with np.errstate(over="ignore"):
        return Recording(samples.astype(np.float32), activity.astype(np.int32), int(recording.subject))


def _check(data: Recordings) -> None:
    if not data.recordings:
        raise BadInput(f"{data.name}: there are no recordings; give at least one")
    if not (np.isfinite(data.rate) and data.rate > 0):
        raise BadInput(f"{data.name}: a sampling rate of {data.rate} Hz fits no recording; state samples a second")
    for key, names in data.scenarios.items():
        unknown = set(names) - set(data.activities)
        if unknown or not names:
            raise BadInput(f"{data.name}: scenario {key} names {sorted(unknown) or 'no activity'}; name known ones")
    for index, recording in enumerate(data.recordings):
        _check_recording(recording, data, f"{data.name}: recording {index} (subject {recording.subject})")


def _check_recording(recording: Recording, data: Recordings, where: str) -> None:
    samples, activity = recording.samples, recording.activity
    if samples.ndim != 2 or not len(samples) or samples.shape[1] != len(data.channels):
        raise BadInput(f"{where} has samples {list(samples.shape)}; needed are [S, {len(data.channels)}], S above 0")
    if activity.shape != (len(samples),):
        raise BadInput(f"{where} has {len(samples)} samples and activities {list(activity.shape)}; one each is needed")
    bad = ~np.isfinite(samples)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise BadInput(
            f"{where} has {int(bad.sum())} NaN or infinite values, the first at sample {row} of "
            f"{data.channels[column]}; repair it, or cut the recording in two there"
        )
    unknown = (activity < UNLABELLED) | (activity >= len(data.activities))
    if unknown.any():
        row = int(unknown.argmax())
        raise BadInput(
            f"{where} has unknown activity {activity[row]} at sample {row}; known are 0 to "
            f"{len(data.activities) - 1}, and {UNLABELLED} for none"
        )
