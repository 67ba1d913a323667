"""Seven shoulder exercises on a smartwatch, in the package: one xz stream, ``watch.xz`` (see WATCH.md).

Burns, Leung, Hardisty, Whyne, Henry, McLachlin, "Shoulder physiotherapy exercise recognition: machine learning the
inertial signals from a smartwatch", Physiological Measurement 39(7), 2018, arXiv 1802.01489; the part that seglearn
publishes: ten subjects, each exercise once with each arm.
"""

from __future__ import annotations

import hashlib
import lzma
from importlib import resources

import numpy as np

from jax_prune.datasets.har.series import Recording, Recordings, gather
from jax_prune.errors import BadInput

RATE = 50.0
CHANNELS = ("acc_x [g]", "acc_y [g]", "acc_z [g]", "gyro_x [rad/s]", "gyro_y [rad/s]", "gyro_z [rad/s]")
ACTIVITIES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
STEPS = np.array([4096, 4096, 4096, 1024, 1024, 1024], np.float32)  # int16 steps to one unit of a channel
RECORDINGS, SAMPLES = 140, 244_102
SHA256 = "95b3d400d428b0dc2dc76aee5ac77bc69f296646a4000f3538a540e94a2d1345"


def load() -> Recordings:
    """140 recordings of 947 to 2,618 samples, subjects 1 to 10. Raises BadInput when the file is missing or altered."""
    packed = _packed()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise BadInput("the embedded recordings jax_prune/datasets/har/watch.xz were altered; install jax-prune again")
    return gather(unpacked(lzma.decompress(packed)), activities=ACTIVITIES, channels=CHANNELS, rate=RATE, name="watch")


def unpacked(data: bytes) -> list[Recording]:
    """The recordings in the stream's bytes: lengths int32, subjects and activities uint8, then the signals.

    The signals are one int16 [S, C] of all recordings in turn, as differences from sample to sample (modulo 2^16),
    stored channel by channel, low bytes before high bytes.
    """
    lengths = np.frombuffer(data, "<i4", RECORDINGS)
    subjects, activities = np.frombuffer(data, np.uint8, 2 * RECORDINGS, 4 * RECORDINGS).reshape(2, RECORDINGS)
    planes = np.frombuffer(data, np.uint8, offset=6 * RECORDINGS).reshape(len(CHANNELS), 2, SAMPLES)
    steps = np.ascontiguousarray(planes.transpose(2, 0, 1)).view("<i2")[..., 0]
    signals = np.cumsum(steps, axis=0, dtype=np.int16) / STEPS
    ends = np.cumsum(lengths)
    return [
        Recording(signals[end - length : end], np.full(length, activity, np.int32), int(subject))
        for length, end, subject, activity in zip(lengths, ends, subjects, activities, strict=True)
    ]


def _packed() -> bytes:
    try:
        return resources.files("jax_prune.datasets.har").joinpath("watch.xz").read_bytes()
    except FileNotFoundError as error:
        raise BadInput(
            "the embedded recordings jax_prune/datasets/har/watch.xz are missing; install jax-prune again"
        ) from error
