"""Standardisation by channel: mean 0 and standard deviation 1 over the training windows, and only theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jax_prune.datasets.har.windows import Windows
from jax_prune.errors import BadInput


class Scaling(NamedTuple):
    """Mean and standard deviation of each channel, float32 [C], in the channels' units."""

    mean: np.ndarray
    deviation: np.ndarray


def fit(windows: Windows) -> Scaling:
    """Mean and deviation over all samples of all windows (float64 sums). Raises BadInput for a dead channel."""
    if not len(windows.x):
        raise BadInput(f"{windows.name}: no window to fit the standardisation on; give at least one")
    mean = windows.x.mean(axis=(0, 1), dtype=np.float64)
    deviation = np.sqrt(np.mean(np.square(windows.x - mean), axis=(0, 1)))
    dead = np.flatnonzero(deviation <= 1e-6 * np.abs(mean))
    if len(dead):
        names = ", ".join(windows.channels[channel] for channel in dead)
        raise BadInput(f"{windows.name}: {names} never changes in the training windows; leave it out (with_channels)")
    return Scaling(mean.astype(np.float32), deviation.astype(np.float32))


def standardised(windows: Windows, scaling: Scaling) -> Windows:
    """The windows with every channel shifted by the mean and divided by the deviation."""
    return windows._replace(x=(windows.x - scaling.mean) / scaling.deviation)
