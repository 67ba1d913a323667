"""Channel pruning to a set rate (after Qi et al., EURASIP JASP 2021:31): three ways to one exact target.

Idea: a network's channels are traced from its own program, and whole ones are cut until what is left costs a set share
of the multiply-accumulates or parameters, exactly. ``search``: train, score channels, evolve how many each group
keeps, cut, tune what is left. ``gates``: one training in which channels go by trained gate scores, nothing after it.
``utility``: one training with the predecessor's rule (Dynamic Channel Propagation, Shen et al., ICPR 2020). The paper's
own mechanism could not be read: ``gates`` is after it, settings ours. Every way takes equally many training steps.

Source: doi 10.1186/s13634-021-00744-4; arXiv 2007.01486.
Command: jax-prune channels --workdir=W [--config.way=gates] [--preset=vgg16-cifar10] [--smoke]
Cost and measured results: see README.md and docs/results/, which says what is not measured yet.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jax_prune.errors import BadInput
from jax_prune.studies.options import option

if TYPE_CHECKING:
    from jax_prune.report import Report

DURING = ("gates", "utility")  # ways that choose while they train
RANKED = ("search", "uniform_score")  # ways whose channels stay by config.score: they differ in how many of each group
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "compare": {"compare": "gates,utility,uniform,uniform_score,group_magnitude"},
    # the seed's table: VGG on CIFAR-10, 76.2 % fewer multiply-accumulates and 94.1 % fewer parameters; for one GPU
    "vgg16-cifar10": {
        "net": "vgg16_cifar", "dataset": "cifar10", "way": "gates", "macs": 0.238, "parameters": 0.059,
        "dense_steps": 62_500, "tune_steps": 15_600, "batch_size": 128, "learning_rate": 0.1, "optimizer": "sgd",
        "weight_decay": 5e-4, "augment": "crop_and_flip",
    },
    # the same recipe narrowed for two CPU cores: an eighth of the channels, 8 epochs
    "vgg16-cifar10-narrow": {
        "net": "vgg16_cifar", "dataset": "cifar10", "width": 0.125, "way": "gates", "macs": 0.238, "parameters": 0.059,
        "dense_steps": 2000, "tune_steps": 800, "batch_size": 128, "learning_rate": 0.1, "optimizer": "sgd",
        "weight_decay": 5e-4, "augment": "crop_and_flip",
    },
}  # fmt: skip
PRESETS["vgg16-cifar10-narrow-compare"] = PRESETS["vgg16-cifar10-narrow"] | {
    "compare": "search,utility,uniform,uniform_score,group_magnitude"
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of the study; each is a flag ``--config.NAME``."""

    net: str = option("lenet5", "a network's name, or package.module:factory giving a Net or nnx.Module")
    width: float = option(1.0, "the zoo's networks with so many times the published channels; not the LeNets")
    dataset: str = option("mnist", "mnist (embedded), or a name prepared with 'jax-prune data prepare'")
    data_dir: str | None = option(None, "where prepared data sets lie; default: TFDS's own folder")
    seed: int = option(0, "seed of everything random")
    test: bool = option(True, "measure the test split for the report; --noconfig.test while settings are chosen")

    macs: float | None = option(
        None, "share of the multiply-accumulates that may stay; 0.25 where no share of anything is given"
    )
    parameters: float | None = option(None, "share of the parameters that may stay")
    latency: float | None = option(
        None, "share of a jitted call's time that may stay, by a model of this machine measured before all training"
    )
    latency_batch: int = option(1, "examples of that call")
    target: str | None = option(
        None,
        "which of these is to be met, the others being upper bounds; default: the first given, in this order",
    )
    way: str = option(
        "search", "search, gates, utility, or without a search: uniform, uniform_score, global, group_magnitude, lamp"
    )
    compare: str = option("", "comma-separated ways to carry through as well, all with equally many steps")
    frozen: str = option("", "groups that stay whole: a regular expression on their names ('jax-prune groups')")
    round_to: int = option(1, "kept channels are multiples of it, or the whole group")
    score: str = option(
        "taylor", "what ranks channels of search and uniform_score: taylor, norm, l1, l2, group or random"
    )

    algorithm: str = option("best1bin", "evolution: as of layerwise")
    population: int = option(20, "candidates of a generation")
    generations: int = option(14, "generations of the search, beside the initial one")
    calibration: int = option(
        2000, "training examples on which candidates are compared, half of all at most; the best on as many others"
    )
    floor: float = option(
        0.5, "share of what the uniform cut leaves a group that a search leaves it at least; 0: one channel will do"
    )
    memory: float = option(2.0, "memory that a search may take in all, GiB")

    dense_steps: int = option(3000, "steps of training before channels are scored; steps come in whole hundreds")
    tune_steps: int = option(3000, "steps of tuning what is left; gates and utility take both in one training")
    batch_size: int = option(128, "examples of a training step")
    optimizer: str = option("adam", "adam, or sgd (momentum 0.9, weight decay added to the gradient)")
    learning_rate: float = option(2e-3, "peak learning rate of dense and gated training")
    tune_rate: float = option(0.5, "peak learning rate of tuning, as a share of that")
    weight_decay: float = option(0.0, "weight decay of all training")
    augment: str = option("none", "of training images: none, shift (by a pixel), or crop_and_flip (pad 4, mirror)")

    @property
    def idle(self) -> dict[str, str]:
        """The settings that nothing reads under the others, and why."""
        ways = self.ways
        found: dict[str, str] = {}
        if "search" not in ways:
            searched = ("algorithm", "population", "generations", "calibration", "floor", "memory")
            found |= dict.fromkeys(searched, f"no way of {', '.join(ways)} searches")
        if not set(ways) & set(RANKED):
            found["score"] = f"no way of {', '.join(ways)} ranks by it"
        if self.latency is None:
            found["latency_batch"] = "no latency is asked for"
        if set(ways) <= set(DURING):
            found["tune_rate"] = "nothing is tuned"
        return found

    @property
    def ways(self) -> tuple[str, ...]:
        """The way, and those that it is compared with."""
        return tuple(dict.fromkeys([self.way, *(name.strip() for name in self.compare.split(",") if name.strip())]))

    @classmethod
    def preset(cls, net: str = "", preset: str = "default") -> Config:
        """The settings of a preset, which brings its own net: another one is a flag. Raises BadInput if unknown."""
        if preset not in PRESETS:
            raise BadInput(f"unknown preset '{preset}': known are {', '.join(PRESETS)}")
        return cls(**PRESETS[preset])

    def smoke(self) -> Config:
        """The same run in seconds: every stage, tiny sizes, meaningless accuracy."""
        return dataclasses.replace(
            self, population=6, generations=2, calibration=min(self.calibration, 250), dense_steps=100, tune_steps=100,
            batch_size=min(self.batch_size, 32),
        )  # fmt: skip


def check(config: Config) -> None:
    """Raises BadInput for settings that no net or data could mend; reads neither."""
    from jax_prune.studies import channels_settings

    channels_settings.check(config)


def run(config: Config, workdir: str) -> Report:
    """Runs or resumes the study in ``workdir``; writes report.json, report.html, report.md and the smaller networks."""
    from jax_prune.studies import channels_run

    return channels_run.run(config, workdir)
