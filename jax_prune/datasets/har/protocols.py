"""Who trains, who validates, who tests: three protocols over windows.

Subject protocols never let one person's windows fall into two parts, validation included, so that no setting is
chosen on a test subject and the test says how a new wearer fares. Random windows put neighbours that share samples
on both sides: kept for comparison with papers that did so, and every such fold says it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from jax_prune.datasets.har.scaling import Scaling, fit, standardised
from jax_prune.datasets.har.windows import Windows
from jax_prune.datasets.splits import Splits
from jax_prune.errors import BadInput


class Fold(NamedTuple):
    """Standardised windows by use, the scaling fitted on ``train``, and a warning where the protocol leaks."""

    train: Windows
    validation: Windows
    test: Windows
    scaling: Scaling
    warning: str | None = None

    @property
    def splits(self) -> Splits:
        """The fold as the package's Splits: the test windows behind a function."""
        parts = self.train
        return Splits(parts.batch, self.validation.batch, lambda: self.test.batch, len(parts.activities), parts.name)


def held_out_subjects(windows: Windows, test: Collection[int], *, validation: int | Collection[int] = 1) -> Fold:
    """The subjects ``test`` test; ``validation`` are other subjects, or how many (the last ones) of those left.

    Raises BadInput for subjects that are unknown or named twice, and when nobody or an activity is left to train.
    """
    known = np.unique(windows.subjects).tolist()
    tested = _known(test, known, "test", windows.name)
    rest = [subject for subject in known if subject not in tested]
    if isinstance(validation, int):
        chosen = rest[len(rest) - validation :] if validation > 0 else []
    else:
        chosen = _known(validation, known, "validation", windows.name)
    if set(chosen) & set(tested):
        both = ", ".join(map(str, sorted(set(chosen) & set(tested))))
        raise BadInput(f"{windows.name}: subject(s) {both} would validate and test; name different ones")
    if not chosen or not tested or len(chosen) >= len(rest):
        raise BadInput(
            f"{windows.name}: of {len(known)} subjects {len(tested)} would test and {len(chosen)} validate; "
            "each part, training too, needs one at least"
        )
    return _fold(windows, np.isin(windows.subjects, chosen), np.isin(windows.subjects, tested))


def leave_one_subject_out(windows: Windows, *, validation: int = 1) -> Iterator[Fold]:
    """One fold a subject, in ascending order: it tests, the ``validation`` subjects after it (in a circle) validate."""
    known = np.unique(windows.subjects).tolist()
    for index, subject in enumerate(known):
        others = known[index + 1 :] + known[:index]
        yield held_out_subjects(windows, [subject], validation=others[: max(validation, 0)])


def random_windows(seed: int, windows: Windows, *, folds: int = 5, validation: float = 0.1) -> Iterator[Fold]:
    """``folds`` folds over shuffled windows, each window tested once; the share ``validation`` of the rest validates.

    Every fold's ``warning`` counts the test windows that share samples with training or validation windows, and those
    whose subject trains too: not a measure of how a new wearer fares.
    """
    count = len(windows.y)
    if not 2 <= folds <= count or not 0 < validation < 1:
        raise BadInput(f"{windows.name}: {folds} folds of {count} windows, share {validation} to validate, cannot be")
    order = np.random.default_rng(seed).permutation(count)
    for part in np.array_split(order, folds):
        rest = np.setdiff1d(order, part, assume_unique=True)  # keeps the shuffled order
        tests, validates = np.zeros(count, bool), np.zeros(count, bool)
        tests[part] = True
        validates[rest[: max(1, round(validation * len(rest)))]] = True
        fold = _fold(windows, validates, tests)
        yield fold._replace(warning=_leak(windows, tests))


def _known(subjects: Collection[int], known: list[int], part: str, name: str) -> list[int]:
    named = [int(subject) for subject in subjects]
    if len(set(named)) < len(named) or not set(named) <= set(known):
        raise BadInput(
            f"{name}: {part} subjects {', '.join(map(str, named))}: name each once, of {', '.join(map(str, known))}"
        )
    return named


def _fold(windows: Windows, validates: np.ndarray, tests: np.ndarray) -> Fold:
    train = windows.take(~validates & ~tests)
    absent = sorted(set(range(len(windows.activities))) - set(train.y.tolist()))
    if absent:
        names = ", ".join(windows.activities[label] for label in absent)
        raise BadInput(f"{windows.name}: no training window shows {names}; train on more, or choose another scenario")
    scaling = fit(train)
    train, validation, test = (
        standardised(part, scaling) for part in (train, windows.take(validates), windows.take(tests))
    )
    return Fold(train, validation, test, scaling)


def _leak(windows: Windows, tests: np.ndarray) -> str:
    shared = int((_shares_samples(windows, tests) & tests).sum())
    known = int(np.isin(windows.subjects[tests], windows.subjects[~tests]).sum())
    return (
        f"random windows: {shared} of {int(tests.sum())} test windows share samples with windows trained on or "
        f"validated with, and {known} are of subjects seen there; accuracy on a new wearer will be lower"
    )


def _shares_samples(windows: Windows, tests: np.ndarray) -> np.ndarray:
    """bool [N]: a window on the other side overlaps this one. Nearest such start on either side decides it."""
    length = windows.x.shape[1]
    shares = np.zeros(len(tests), bool)
    place = windows.recordings.astype(np.int64) * (int(windows.starts.max()) + 2 * length) + windows.starts
    for side in (tests, ~tests):
        others = np.sort(place[~side])
        after = np.searchsorted(others, place[side])
        right = others[np.minimum(after, len(others) - 1)]
        left = others[np.maximum(after - 1, 0)]
        shares[side] = np.minimum(abs(right - place[side]), abs(left - place[side])) < length
    return shares
