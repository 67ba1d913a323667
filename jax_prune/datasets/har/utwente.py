"""University of Twente's complex activities, the phone at the wrist: ``smartphoneatwrist.csv``.

Shoaib, Bosch, Incel, Scholten, Havinga, "Complex Human Activity Recognition Using Smartphone and Wrist-Worn Motion
Sensors", Sensors 16(4):426, 2016. Ten participants, 13 activities, 50 Hz. The file has no header and 14 columns: time
stamp, acceleration, linear acceleration, rotation rate, magnetic field (x, y, z each), activity code. It names no
participants: each activity is one block of 30 minutes, one participant after the other, so that equal parts of a
block are taken for participants (the paper: 30 minutes of each activity, as much of each participant). All ten did
the simple activities, seven the complex ones, six smoked; which seven and six is not known, so a subject number means
one person within an activity, not for certain from one activity to another.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jax_prune import progress
from jax_prune.datasets.har import raw_text
from jax_prune.datasets.har.series import Recording
from jax_prune.errors import BadInput

RATE = 50.0
CHANNELS = tuple(
    f"{sensor}_{axis} [{unit}]"
    for sensor, unit in (("acc", "m/s2"), ("linear_acc", "m/s2"), ("gyro", "rad/s"), ("mag", "uT"))
    for axis in "xyz"
)
SIMPLE = ("walking", "standing", "jogging", "sitting", "biking", "walking_upstairs", "walking_downstairs")
COMPLEX = ("typing", "writing", "drinking_coffee", "talking", "smoking", "eating")
ACTIVITIES = (*SIMPLE, *COMPLEX)  # codes 11111 to 11123 in this order
SCENARIOS = {"simple": SIMPLE, "complex": COMPLEX}
PARTICIPANTS = {**dict.fromkeys(SIMPLE, 10), **dict.fromkeys(COMPLEX, 7), "smoking": 6}
FIRST_CODE = 11_111
FILE = "smartphoneatwrist.csv"
ABOUT = (
    "University of Twente, complex human activities, phone at the right wrist (Shoaib et al. 2016, Sensors 16(4):426). "
    "One example a recording: samples [S, 12] at 50 Hz, activity [S] (code less 11111), subject (a part of its block)."
)
CAUTION = (
    "the file names no participants; subjects are equal parts of each activity's block, one person within an activity, "
    "not for certain from one to another"
)
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def read_folder(folder: Path) -> list[Recording]:
    """A recording for each activity and participant: samples [S, 12], activity 0 to 12, subjects from 1.

    Raises BadInput, with file and row, for a file that is missing or torn, missing samples, unknown codes, an
    activity in two blocks, a block too short to share, and time stamps of another rate than 50 Hz.
    """
    path = folder / FILE
    if not path.is_file():
        below = next(iter(sorted(folder.rglob(FILE))), None)
        hint = f"it is in {below.parent}: pass that folder" if below else "unpack ut-data-complex.rar there"
        raise BadInput(f"{folder} has no {FILE}; {hint}")
    table = raw_text.read(path, 2 + len(CHANNELS), delimiter=",")
    activity = _activities(table[:, -1], path)
    borders = np.flatnonzero(np.diff(activity)) + 1
    _check_blocks(activity, np.array([0, *borders]), path)
    _check_rate(table[:, 0], borders, path)
    samples = table[:, 1:-1].astype(np.float32)
    return [
        Recording(part, kind[: len(part)], subject)
        for block, kind in zip(np.split(samples, borders), np.split(activity, borders), strict=True)
        for subject, part in enumerate(np.array_split(block, PARTICIPANTS[ACTIVITIES[kind[0]]]), start=1)
    ]


def _activities(codes: np.ndarray, path: Path) -> np.ndarray:
    unknown = ~np.isin(codes, FIRST_CODE + np.arange(len(ACTIVITIES)))
    if unknown.any():
        row = int(unknown.argmax())
        raise BadInput(
            f"{path}: row {row + 1} has unknown activity code {codes[row]:g}; known are {FIRST_CODE} to "
            f"{FIRST_CODE + len(ACTIVITIES) - 1}: repair the row or fetch the file again"
        )
    return (codes - FIRST_CODE).astype(np.int32)


def _check_blocks(activity: np.ndarray, starts: np.ndarray, path: Path) -> None:
    kinds, lengths = activity[starts], np.diff([*starts, len(activity)])
    for index, (kind, start, length) in enumerate(zip(kinds, starts, lengths, strict=True)):
        name = ACTIVITIES[kind]
        if kind in kinds[:index]:
            raise BadInput(
                f"{path}: row {start + 1} begins a second block of {name}; participants are told apart by their part "
                "of one block: fetch the file again"
            )
        if length < PARTICIPANTS[name]:
            raise BadInput(
                f"{path}: row {start + 1} begins {length} rows of {name}, fewer than its {PARTICIPANTS[name]} "
                "participants; fetch the file again"
            )


def _check_rate(stamps: np.ndarray, borders: np.ndarray, path: Path) -> None:
    """The commonest step must be that of 50 Hz in some unit; stamps printed too coarsely to step say nothing."""
    steps = np.concatenate([np.diff(part) for part in np.split(stamps, borders)])
    step = float(np.median(np.abs(steps)))
    if step == 0:
        progress.note(f"{path.name}: its time stamps do not step from row to row; {RATE:g} Hz is taken on trust")
    elif not any(abs(step * unit * RATE - 1) < 0.1 for unit in UNITS.values()):
        raise BadInput(
            f"{path}: time stamps step by {step:g}, which is not {RATE:g} Hz in {', '.join(UNITS)}; resample the file"
        )
