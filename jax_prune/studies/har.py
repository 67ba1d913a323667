"""Human activity recognition on a wrist or a waist: eight recurrent networks, trained, then pruned in two ways.

Idea: which of LSTM, BiLSTM, GRU, BiGRU, plain or behind two convolutions, recognises what people who took no part in
training do; then how far the best of them can shrink. Weights go one by one, with ratios that differential evolution
finds; hidden units and filters go whole, traced through all gates and both directions, and the network becomes smaller.
Each way walks down a ladder of rates. Which eight is from Mekruksavanich and Jitpattanakul (Electronics 2021,
10(14):1685); their settings could not be read, all settings here are ours, chosen on people who do not test.

Source: doi 10.3390/electronics10141685; data: see jax_prune/datasets/har (smartwatch embedded; HAPT; UTwente).
Command: jax-prune har --workdir=W [--preset=hapt --config.data_dir=D] [--smoke]
Cost and measured results: see README.md and docs/results/.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jax_prune.errors import BadInput
from jax_prune.studies.options import option

if TYPE_CHECKING:
    from jax_prune.report import Report

NETS = ("lstm", "bilstm", "gru", "bigru", "cnn_lstm", "cnn_bilstm", "cnn_gru", "cnn_bigru")
PAPER = "cnn_bigru"  # whose accuracies on random windows are published
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # thirteen activities of ten people, of whom six showed all; the paper's data
    "utwente": {"dataset": "utwente", "test_subjects": (5, 6), "validation_subjects": (4,), "units": 128},
    # six activities of 30 people with a phone at the waist; networks of 128 units: an hour on two CPU cores
    "hapt": {
        "dataset": "hapt", "scenario": "basic", "test_subjects": tuple(range(22, 31)),
        "validation_subjects": (19, 20, 21), "units": 128, "learning_rate": 1e-3, "noise": 0.0, "stretch": 0.0,
        "turn": 0.0, "weights": (0.5, 0.75, 0.9, 0.95), "generations": 5, "tune_steps": 300, "tune_rate": 10.0,
        "prune": 1,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of the study; each is a flag ``--config.NAME``."""

    dataset: str = option("watch", "watch (embedded), or hapt or utwente, prepared with 'jax-prune data prepare'")
    data_dir: str | None = option(None, "where prepared data sets lie; default: TFDS's own folder")
    scenario: str = option(
        "all", "which activities: all; of hapt also static, dynamic, transitions, basic; of utwente simple, complex"
    )
    test_subjects: tuple[int, ...] = option((8, 9, 10), "subjects held out for the test")
    validation_subjects: tuple[int, ...] = option((7,), "subjects on whom networks and settings are chosen")
    length: int = option(128, "samples of a window")
    hop: int = option(64, "samples from one window's start to the next")
    purity: float = option(1.0, "share of a window's samples that must have its activity")
    seed: int = option(0, "first seed of everything random")
    seeds: int = option(3, "how many times every network is trained: with seed, seed + 1, ...")
    test: bool = option(True, "measure the test subjects for the report; --noconfig.test while settings are chosen")

    nets: tuple[str, ...] = option(NETS, "which networks to train")
    units: int = option(32, "hidden units a direction")
    filters: int = option(64, "filters of each convolution")
    dropout: float = option(0.25, "share of activations dropped before pooling and before the classes")
    dense_steps: int = option(1000, "steps of training before pruning; steps come in whole hundreds")
    batch_size: int = option(64, "windows of a training step")
    learning_rate: float = option(3e-3, "peak learning rate")
    weight_decay: float = option(0.0, "decoupled weight decay of all training")
    noise: float = option(0.1, "noise added to training windows, in standard deviations of a channel")
    stretch: float = option(0.1, "spread of a random factor on each channel of a training window")
    turn: float = option(0.3, "spread of a random rotation of each sensor's three axes, radians; needs axes in threes")

    prune: int = option(2, "how many networks are pruned: the best on the validation subjects")
    weights: tuple[float, ...] = option((0.5, 0.75, 0.9), "ladder: shares of the weights removed")
    hidden: tuple[float, ...] = option((0.25, 0.5, 0.75), "ladder: shares of hidden units and filters removed")
    tolerance: float = option(
        0.005, "of each ladder the last rung that lost at most so much validation accuracy is shown first"
    )
    tune_steps: int = option(200, "steps of tuning on every rung")
    tune_rate: float = option(3.0, "peak learning rate of tuning, as a multiple of that of training")
    distillation: float = option(0.7, "weight of the dense network's soft targets in the tuning loss, 0 to 1")
    temperature: float = option(2.0, "temperature of the soft targets")
    population: int = option(12, "candidates of a generation of the search for the layers' ratios")
    generations: int = option(4, "generations of a rung's search, beside the initial one")
    calibration: int = option(500, "training windows on which candidates are compared")
    at_once: int = option(0, "candidates evaluated together; 0: chosen by a short timed probe, which is saved")

    random_windows: bool = option(True, "also train on random windows, as papers do, to say what that is worth")
    leave_one_out: bool = option(False, "also train the best network once a subject, each tested in turn")

    @property
    def rungs(self) -> int:
        """Of the longer ladder."""
        return max(len(self.weights), len(self.hidden))

    @property
    def idle(self) -> dict[str, str]:
        """The settings that nothing reads under the others, and why."""
        found: dict[str, str] = {}
        pruning = ("weights", "hidden", "tolerance", "tune_steps", "tune_rate", "distillation", "temperature",
                   "population", "generations", "calibration", "at_once")  # fmt: skip
        if not self.prune:
            found |= dict.fromkeys(pruning, "prune is 0")
        elif not self.weights:
            found |= dict.fromkeys(
                ("population", "generations", "calibration", "at_once"), "there is no ladder of weights"
            )
        if not self.distillation:
            found["temperature"] = "distillation is 0"
        if not any("cnn" in name for name in self.nets):
            found["filters"] = "no network convolves"
        if not self.test:
            found |= dict.fromkeys(("random_windows", "leave_one_out"), "the test subjects are not touched")
        if self.dataset == "watch":
            found["data_dir"] = "the smartwatch set is in the package"
        return found

    @classmethod
    def preset(cls, net: str = "", preset: str = "default") -> Config:
        """The settings of a preset. Raises BadInput if unknown."""
        if preset not in PRESETS:
            raise BadInput(f"unknown preset '{preset}': known are {', '.join(PRESETS)}")
        return cls(**PRESETS[preset])

    def smoke(self) -> Config:
        """The same run in seconds: every stage, tiny sizes, meaningless accuracy."""
        return dataclasses.replace(
            self, nets=tuple(name for name in self.nets if name in ("gru", "cnn_bigru")) or self.nets[:2], units=8,
            filters=8, seeds=2, length=32, hop=256, dense_steps=100, tune_steps=100, batch_size=16, prune=1,
            weights=self.weights[:1], hidden=self.hidden[:1], population=6, generations=1, calibration=50,
        )  # fmt: skip


def check(config: Config) -> None:
    """Raises BadInput for settings that no data could mend; reads none."""
    from jax_prune.studies import har_settings

    har_settings.check(config)


def run(config: Config, workdir: str) -> Report:
    """Runs or resumes the study in ``workdir``; writes report.json, report.html, report.md and the pruned networks."""
    from jax_prune.studies import har_run

    return har_run.run(config, workdir)
