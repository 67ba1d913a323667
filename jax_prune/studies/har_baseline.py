"""What recurrent networks have to beat: logistic regression on five numbers a channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jax_prune.datasets.har import Windows

NAME = "logistic regression"
FEATURES = 5  # a channel
Answers = Callable[[np.ndarray], np.ndarray]


def features(x: np.ndarray) -> np.ndarray:
    """Mean, deviation, least, most and mean absolute step of every channel: of windows [N, T, C] float64 [N, 5 C]."""
    x = x.astype(np.float64)
    steps = np.abs(np.diff(x, axis=1)).mean(1)
    return np.concatenate([x.mean(1), x.std(1), x.min(1), x.max(1), steps], axis=1)


def fitted(windows: Windows) -> Answers:
    """The answers int16 [N] to windows [N, T, C], of scikit-learn's regression with its own settings, standardised."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import: only here
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(features(windows.x), windows.y)
    return lambda x: np.asarray(model.predict(features(x)), np.int16)


def sizes(channels: int, classes: int) -> tuple[int, int]:
    """Its parameters, and the products of one answer."""
    weights = FEATURES * channels * classes
    return weights + classes, weights
