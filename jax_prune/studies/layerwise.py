"""Layer-wise weight pruning by differential evolution (after Wu et al., Sensors 2021, 21(3):880).

Idea: layers differ in how much they can lose. Each round ranks the weights, sweeps every layer alone
(sensitivity), evolves the layers' ratios on training data, removes the weakest connections, and tunes the net
while removed connections may return. The paper's DE and schedule settings could not be read; all settings here are
ours, chosen on the validation split.

Source: doi 10.3390/s21030880; recovery after Guo et al. 2016 (DNS) and Li et al. 2018 (OLMP).
Command: jax-prune layerwise --workdir=W [--config.net=lenet5] [--preset=record|compare] [--smoke]
Cost and measured results: see README.md and docs/results/, where every figure has its report.json.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jax_prune.errors import BadInput
from jax_prune.studies.options import option

if TYPE_CHECKING:
    from jax_prune.report import Report


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of the study; each is a flag ``--config.NAME``."""

    net: str = option("lenet300", "a net of the zoo (README), or package.module:factory giving a Net or nnx.Module")
    width: float = option(1.0, "the zoo's networks with so many times the published channels; not the LeNets")
    dataset: str = option("mnist", "mnist (embedded), or a name prepared with 'jax-prune data prepare'")
    data_dir: str | None = option(None, "where prepared data sets lie; default: TFDS's own folder")
    seed: int = option(0, "seed of everything random")
    test: bool = option(True, "measure the test split for the report; --noconfig.test while settings are chosen")
    trained: bool = option(False, "the factory's net is trained already: skip dense training")
    rules: str = option(
        "",
        "rules on parameter paths, e.g. 'ip3/kernel:upper=0.8;ip1/.*:frozen;conv.*:group=convs;ip2/kernel:nm=2:4'; "
        "also lower=R, tied=NAME, round_to=K, block=RxC, inputs=AXES",
    )

    compression: float = option(40.0, "target: prunable entries / kept ones; with biases in both")
    tolerance: float | None = option(
        None,
        "instead of a target: highest compression whose accuracy on calibration data is at most this below dense",
    )
    max_macs: int | None = option(None, "instead of a target: at most so many products an example of the kept weights")
    max_bytes: int | None = option(
        None, "instead of a target: at most so many bytes of positions and values in the packed net, before compression"
    )
    rounds: int = option(6, "rounds of search, pruning and tuning")
    front: float = option(2.0, "above 1: early rounds prune more, late ones less")
    score: str = option("fisher", "what ranks weights: fisher (|w| sqrt(E g^2)), magnitude, taylor (|w g|) or random")
    biases: bool = option(True, "prune biases together with their layer's weights")
    allocation: str = option(
        "de", "who sets the ratios: de, random, uniform, erk, lamp, global (magnitude), score or greedy (by sweeps)"
    )
    compare: str = option("", "comma-separated allocations to carry through the whole pipeline as well")
    trade_off: int = option(0, "generations of a front of error, parameters and MACs over the dense net; 0: none")

    algorithm: str = option(
        "best1bin",
        "evolution: best1bin, rand1bin, currenttobest1bin, currenttopbest1bin, jde, shade, lshade or evosax:NAME",
    )
    population: int = option(20, "candidates of a generation")
    generations: int = option(14, "generations of a round's search, beside the initial one")
    race: str = option("exact", "early decisions: exact (what has lost for certain), paired (most likely) or none")
    confidence: float = option(0.99, "of paired races: how sure a trial must be to lose before it is dropped")
    fidelity: tuple[float, ...] = option(
        (1.0,), "shares of the calibration data for equal parts of the generations, growing to 1, e.g. 0.25,1"
    )
    audit: bool = option(False, "evaluate dropped trials whole afterwards: how many decisions differed, for the report")
    calibration: int = option(2000, "training examples on which candidates are compared")
    sensitivity: float = option(1.0, "loss increase at which a layer's own sweep ends its search box")
    at_once: int = option(0, "candidates evaluated together; 0: chosen by a short timed probe, which is saved")
    precision: str = option(
        "float32", "of candidates' products: float32 or bfloat16; the best few are scored again in float32"
    )
    memory: float = option(2.0, "memory that a search may take in all, GiB; its plan is printed before the first one")

    dense_steps: int = option(15_000, "steps of dense training before pruning; steps come in whole hundreds")
    round_steps: int = option(3000, "steps of tuning in each round")
    final_steps: int = option(40_000, "steps of tuning in the last round")
    batch_size: int = option(128, "examples of a training step")
    optimizer: str = option("adam", "adam or sgd (Nesterov momentum 0.9)")
    dense_rate: float = option(2e-3, "peak learning rate of dense training")
    tune_rate: float = option(3e-3, "peak learning rate of each round's tuning")
    weight_decay: float = option(0.0, "decoupled weight decay of all training")
    shift: int = option(0, "half of the training images get a random shift, pixels each way, possibly none")
    distillation: float = option(1.0, "weight of the dense nets' soft targets in the tuning loss, 0 to 1")
    temperature: float = option(4.0, "temperature of the soft targets")
    committee: int = option(2, "dense nets, trained alike from their own seeds, whose mean output is the soft target")
    taught_shift: int = option(1, "tuning also asks the dense nets about images shifted so far; needs distillation=1")
    taught_share: float = option(
        0.85, "share of the images that get a random shift, possibly none, when tuning asks the dense nets"
    )
    neighbour_weight: float = option(
        0.3, "weight of the dense nets' answers to each neighbouring shift, beside 1 for the image itself"
    )

    recovery: str = option("topk", "how removed connections may return while tuning: topk, hysteresis or none")
    recovery_until: float = option(0.85, "share of a round's tuning after which its masks are final")
    recovery_rate: float = option(0.01, "gradient step length of removed weights while they may return")

    @property
    def members(self) -> int:
        """Dense nets that are trained: the committee, where tuning learns from it and the net does not come trained."""
        return 1 if self.trained or not self.distillation else self.committee

    @property
    def all_dense_steps(self) -> int:
        """Steps of dense training before pruning, of all members together; 0 for a net that came trained."""
        from jax_prune.learning import CHUNK, chunks_of

        return 0 if self.trained else self.members * chunks_of(self.dense_steps) * CHUNK

    @property
    def idle(self) -> dict[str, str]:
        """The settings that nothing reads under the others, and why."""
        asked = [name for name in ("tolerance", "max_macs", "max_bytes") if getattr(self, name) is not None]
        untaught = ("committee", "temperature", "neighbour_weight")
        found = {
            "compression": f"{asked[0]} is what is asked" if asked else "",
            **dict.fromkeys(untaught, "" if self.distillation else "distillation is 0"),
            **dict.fromkeys(("recovery_until", "recovery_rate"), "recovery is none" if self.recovery == "none" else ""),
            "confidence": "" if self.race == "paired" else f"race is {self.race}",
            "audit": "race is none" if self.race == "none" else "",
        }
        if self.race == "paired" and self.algorithm.startswith("evosax:"):
            found |= dict.fromkeys(("race", "confidence", "audit"), "evosax's algorithms compare no pairs")
        if not max(self.shift, self.taught_shift):
            found |= dict.fromkeys(("taught_share", "neighbour_weight"), "no image is shifted")
        if self.trained:
            found |= dict.fromkeys(("committee", "dense_steps", "dense_rate"), "the net comes trained")
        return {name: why for name, why in found.items() if why}

    @classmethod
    def preset(cls, net: str = "lenet300", preset: str = "default") -> Config:
        """The settings for a net and a preset: default, record or compare. Raises BadInput if unknown."""
        from jax_prune.studies.layerwise_presets import presets_of

        presets = presets_of(net)
        if preset not in presets:
            raise BadInput(f"unknown preset '{preset}': known are {', '.join(presets)}")
        return dataclasses.replace(cls(net=net), **presets[preset])

    def smoke(self) -> Config:
        """The same run in seconds: every stage, tiny sizes, meaningless accuracy."""
        return dataclasses.replace(
            self, compression=min(self.compression, 4.0), rounds=2, population=6, generations=2,
            calibration=200, dense_steps=200, committee=min(self.committee, 2), round_steps=100, final_steps=100,
            at_once=1, trade_off=min(self.trade_off, 2), fidelity=(1.0,),
        )  # fmt: skip


def check(config: Config) -> None:
    """Raises BadInput for settings that no net or data could mend; reads neither."""
    from jax_prune.studies import layerwise_run

    layerwise_run.check(config)


def run(config: Config, workdir: str) -> Report:
    """Runs or resumes the study in ``workdir`` and writes report.json, report.html, report.md and model.jaxprune."""
    from jax_prune.studies import layerwise_run

    return layerwise_run.run(config, workdir)
