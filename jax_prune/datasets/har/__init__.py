"""Recognising what people do from what they wear: recordings, windows, and who trains and who tests.

data = har.load("watch")                                        # embedded, no file or network needed
windows = har.cut(data, length=128, hop=64)                     # x float32 [N, 128, 6], y [N], subjects [N]
fold = har.held_out_subjects(windows, (8, 9, 10))               # standardised on the training subjects alone
fold.splits.train.x, fold.splits.validation.y, fold.splits.test()
"""

from __future__ import annotations

from jax_prune.datasets.har.protocols import Fold, held_out_subjects, leave_one_subject_out, random_windows
from jax_prune.datasets.har.scaling import Scaling, fit, standardised
from jax_prune.datasets.har.series import UNLABELLED, Recording, Recordings, gather, with_channels
from jax_prune.datasets.har.sets import NAMES, caution, load
from jax_prune.datasets.har.task import Task
from jax_prune.datasets.har.windows import Windows, cut

__all__ = [
    "NAMES",
    "UNLABELLED",
    "Fold",
    "Recording",
    "Recordings",
    "Scaling",
    "Task",
    "Windows",
    "caution",
    "cut",
    "fit",
    "gather",
    "held_out_subjects",
    "leave_one_subject_out",
    "load",
    "random_windows",
    "standardised",
    "with_channels",
]
