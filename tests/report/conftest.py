"""A report like the one of LeNet-300-100 at 42x in six rounds: numbers of a believable size, seeded."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from jax_prune.report import (
    Baselines,
    Compression,
    Layer,
    Limits,
    Outcome,
    Point,
    Report,
    Round,
    Search,
    Sensitivity,
    Side,
    Spending,
    TradeOff,
    TradePoint,
    Tuned,
    Way,
    correlations,
)
from jax_prune.report.recognition import ClassScores, Protocol, Recognition, Recognizer, Rung, Scored

SIZES = {"ip1": 784 * 300 + 300, "ip2": 300 * 100 + 100, "ip3": 100 * 10 + 10}
TARGETS = (142_900, 76_500, 41_000, 21_900, 11_750, 6_347)
KEPT = ((113_100, 28_830, 970), (53_600, 22_010, 890), (26_300, 13_920, 780),
        (13_420, 7_830, 650), (7_200, 4_060, 490), (4_012, 1_977, 358))  # fmt: skip
DRAW = np.random.default_rng(0)


def best_so_far(start: float, end: float, evaluations: int = 384, rate: float = 60.0) -> tuple[float, ...]:
    falling = end + (start - end) * np.exp(-np.arange(evaluations) / rate) * DRAW.uniform(0.9, 1.2, evaluations)
    return tuple(np.minimum.accumulate(falling).tolist())


def make_round(index: int) -> Round:
    loss, names = 0.004 * 2.1**index, ("uniform", "erk", "lamp", "global", "random")
    factors = (1.9 + index / 3, 1.35, 1.12, 1.6 + index / 2, 1.05)
    return Round(
        round=index + 1,
        target=TARGETS[index],
        kept=TARGETS[index],
        validation_error_before_tuning=0.0172 * 1.28 ** (index + 1),
        validation_error=(0.0166, 0.0160, 0.0158, 0.0164, 0.0166, 0.0178)[index],
        baselines={name: loss * factor for name, factor in zip(names, factors, strict=True)},
        search_loss=loss,
        returned=tuple(
            int(kept * rate / (index + 1.5)) for kept, rate in zip(KEPT[index], (0.06, 0.04, 0.01), strict=True)
        ),
        layers_kept=KEPT[index],
    )


def make_search() -> Search:
    ends = [0.004 * 2.1**index for index in range(6)]
    ratios = tuple(np.linspace(0, 0.99, 34).tolist())
    loss = tuple(tuple((0.003 + scale * np.array(ratios) ** power).tolist())
                 for scale, power in ((0.8, 30), (0.5, 14), (2.1, 6)))  # fmt: skip
    return Search(
        algorithm="rand1bin",
        evaluations=384,
        population=24,
        generations=15,
        history=tuple(best_so_far(9 * end, end) for end in ends),
        random_history=tuple(best_so_far(9 * end, 1.05 * end, rate=140.0) for end in ends),
        sensitivity=Sensitivity(ratios, loss, Limits((0.0, 0.0, 0.0), (0.97, 0.95, 0.7)), 0.1),
    )


def make_history() -> tuple[Point, ...]:
    dense = [Point("dense", 430 * e, 0.055 * 0.8**e + 0.0168, epoch=float(e)) for e in range(1, 13)]
    tune = [Point("tune", 430 * e, 0.0158 + 0.002 * r * 0.6**e, float(e), r) for r in range(1, 7) for e in range(1, 7)]
    reference = [Point("reference", 430 * e, 0.055 * 0.85**e + 0.0162, float(e)) for e in range(1, 49)]
    return (*dense, *tune, *reference)


def make_trade_off() -> TradeOff:
    """Points of which the later ones keep more and err less, but for every fifth, which has fewer MACs instead."""
    points, sizes = [], np.array(list(SIZES.values()))
    for index in range(25):
        kept = np.maximum((sizes * 0.5 * 0.8 ** (24 - index)).astype(int), 1)
        error = 0.9 * 0.75**index + (0.004 if index % 5 == 3 else 0.0)
        params, macs = int(kept.sum()), int(kept.sum() * (0.6 if index % 5 == 3 else 0.99))
        points.append(TradePoint(error, params, macs, 5 * params, tuple(kept.tolist())))
    dense = TradePoint(0.001, 266_610, 266_200, 1_066_440, tuple(SIZES.values()))
    return TradeOff(tuple(points), dense, examples=2000, evaluations=984, population=24, generations=40)


def make_outcomes() -> tuple[Outcome, ...]:
    means = {
        "search": 0.0172,
        "lamp": 0.0179,
        "erk": 0.0188,
        "uniform": 0.0223,
        "global": 0.0196,
        "random": 0.0174,
    }
    return tuple(Outcome(name, seed, error + float(DRAW.normal(0, 0.0005)), 0.0176)
                 for name, error in means.items() for seed in range(5))  # fmt: skip


def make_tuned() -> tuple[Tuned, ...]:
    """Six allocations that start the last rounds with losses in the order of their errors but for two neighbours."""
    names = ("search", "random", "lamp", "erk", "global", "uniform")
    return tuple(
        Tuned(
            name,
            0,
            number,
            loss=0.09 * number * (1 + rank / 4),
            error=0.0172 + 0.0006 * (rank if rank < 4 else 9 - rank),
        )
        for number in (5, 6)
        for rank, name in enumerate(names)
    )


def make_example() -> Report:
    rounds = tuple(make_round(index) for index in range(6))
    kept = KEPT[-1]
    layers = tuple(Layer(n, s, k, 1 - k / s) for (n, s), k in zip(SIZES.items(), kept, strict=True))
    return Report(
        study="layerwise",
        title="LeNet-300-100 on MNIST, layer-wise differential evolution",
        dataset="mnist",
        seed=0,
        dense=Side(0.0171, 0.0168, 266_610, 266_200, 266_200, "every product", 1_066_440, "float32", 24_940),
        pruned=Side(
            0.0173,
            0.0178,
            sum(kept),
            6_197,
            6_197,
            "products of kept weights",
            31_870,
            "packed, delta-coded, zstd",
            24_940,
        ),  # fmt: skip
        start=Side(0.0178, 0.0174, 266_610, steps=5_160),
        compression=Compression(42.96, 42.0),
        layers=layers,
        rounds=rounds,
        history=make_history(),
        search=make_search(),
        trade_off=make_trade_off(),
        baselines=Baselines.of(rounds, make_outcomes(), make_tuned(), correlations(make_tuned())),
        command="python -m jax_prune layerwise --workdir=runs/lenet300 --config.net=lenet300 --config.seed=0",
        config={"net": "lenet300", "compression": 42.0, "rounds": 6, "tolerance": None, "rules": ["ip3/.*"]},
        seconds={"dense": 31.2, "reference": 58.1, "search": 74.9, "tune": 81.0, "deploy": 1.1},
        versions={
            "jax": "0.10.2",
            "jaxlib": "0.10.2",
            "flax": "0.12.8",
            "python": "3.11.7",
            "machine": "AMD EPYC",
        },
        files={"packed model": "model.safetensors.zst", "every vector and score": "search_history.csv"},
    )


@pytest.fixture(scope="session")
def example() -> Report:
    return make_example()


@pytest.fixture(scope="session")
def bare(example: Report) -> Report:
    """Library use with a metric of the user's own: no search, no rounds, no test split."""
    return Report(
        study="library",
        title="",
        dataset="arrays",
        seed=1,
        dense=Side(validation_error=0.381, params=1000),
        pruned=Side(validation_error=0.392, params=100),
        compression=Compression(),
        layers=(Layer("a", 1000, 100, 0.9),),
        measure="mean absolute error",
    )


@pytest.fixture(scope="session")
def tolerant(example: Report) -> Report:
    """The tolerance question: values are kept fractions, missing until something is feasible."""
    history = tuple((None, None, *row[2:]) for row in example.search.history)
    search = dataclasses.replace(example.search, objective="kept fraction", history=history, random_history=())
    rounds = tuple(dataclasses.replace(entry, baselines={}, search_loss=None) for entry in example.rounds)
    return dataclasses.replace(example, search=search, rounds=rounds, baselines=Baselines())


@pytest.fixture(scope="session")
def narrowed(example: Report) -> Report:
    """Whole channels by two ways, the second without gates on a group."""
    dense = dataclasses.replace(example.dense, seconds={"1": 2.5e-4})

    def way(name: str, error: float, kept: tuple[int, ...], macs: int, latency: float, **rest: Any) -> Way:
        network = Side(error, error + 0.001, 60_000, 59_800, macs, steps=6000, seconds={"1": latency})
        spending = (
            Spending("MACs", 66_550, macs, 266_200, target=True),
            Spending("latency", 2e-4, latency, 2.5e-4, target=False),
        )
        return Way(name, network, spending, kept, 61.5, **rest)

    ways = (
        way("search", 0.0181, (70, 60, 10), 66_500, 1.6e-4),
        way("gates", 0.0192, (90, 40, 10), 66_549, 1.9e-4, ungated={"ip2": "no place before a <sum> of it"}),
    )
    layers = tuple(Layer(n, s, k, 1 - k / s) for n, s, k in zip(SIZES, (300, 100, 10), ways[0].kept, strict=True))
    return dataclasses.replace(
        example, study="channels", dense=dense, pruned=ways[0].network, layers=layers, ways=ways, trade_off=None,
        rounds=(), search=None, history=(), baselines=Baselines(outcomes=make_outcomes()),
    )  # fmt: skip


HAPT = ("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "laying")
NETS = {
    "cnn_bigru": 0.965, "cnn_gru": 0.962, "cnn_bilstm": 0.958, "cnn_lstm": 0.951, "bigru": 0.946, "bilstm": 0.943,
    "gru": 0.938, "lstm": 0.921,
}  # fmt: skip
WEIGHTS, HIDDEN = (0.5, 0.75, 0.9, 0.95), (0.25, 0.5, 0.75)


def make_scored(accuracy: float, draw: np.random.Generator, seeds: int = 3) -> Scored:
    found = (accuracy + draw.normal(0, 0.004, seeds)).clip(0, 1)
    return Scored(tuple(found.tolist()), tuple((found - 0.004).tolist()), tuple((found + 0.011).clip(0, 1).tolist()))


def make_ladders(net: str, params: int, seconds: float, draw: np.random.Generator) -> list[Rung]:
    def rung(way: str, removed: float, left: float, lost: float, place: int, times: dict[str, float]) -> Rung:
        scored, kept = make_scored(NETS[net] - lost, draw), round(params * left)
        return Rung(net, way, removed, scored, kept, 128 * kept, 1500 + 400 * place, 5 * kept, times)

    weights = [rung("weights", share, 1 - share, 0.03 * share**9, place + 1, {}) for place, share in enumerate(WEIGHTS)]
    hidden = [
        rung("hidden", share, (1 - share) ** 1.6, 0.02 * share**3, place + 1, {"1": seconds * (1 - 0.7 * share)})
        for place, share in enumerate(HIDDEN)
    ]
    return [*weights, *hidden]


def make_recognition() -> Recognition:
    """Eight networks of three seeds on six activities, two of them pruned in both ways."""
    draw = np.random.default_rng(1)
    params = {name: (240_000 if "bi" in name else 110_000) + 9_000 * ("cnn" in name) for name in NETS}
    seconds = {name: 1e-3 * (2.1 if "bi" in name else 1.2) * (0.5 if "cnn" in name else 1.0) for name in NETS}
    networks = tuple(
        Recognizer(
            name, make_scored(accuracy, draw), params[name], 128 * params[name], 1500,
            {"1": seconds[name], "256": 40 * seconds[name]} | ({} if "bi" in name else {"sample": 4.2e-5}),
        )
        for name, accuracy in NETS.items()
    )  # fmt: skip
    longer = tuple(
        dataclasses.replace(own, scored=make_scored(NETS[own.name] + 0.002, draw), steps=3100) for own in networks[:2]
    )
    counts = draw.multinomial(900, [0.01, 0.012, 0.008, 0.0, 0.005, 0.965], 6)
    confusion = tuple(tuple(np.roll(row, k + 1).tolist()) for k, row in enumerate(counts))
    return Recognition(
        networks=networks,
        classes=tuple(ClassScores(name, 0.95 + 0.005 * k, 0.96, 0.955, 300) for k, name in enumerate(HAPT)),
        confusion=confusion,
        confused="cnn_bigru",
        windows={"train": 7_412, "validation": 1_203, "test": 1_800},
        measured_on="test subjects 22, 23, 24, 25, 26, 27, 28, 29, 30",
        reference=longer,
        ladders=tuple(
            rung for name in list(NETS)[:2] for rung in make_ladders(name, params[name], seconds[name], draw)
        ),
        shown={"weights": 0.9, "hidden": 0.5},
        tolerance=0.005,
        protocols=(
            Protocol(
                "random windows", "cnn_bigru", (0.9881, 0.9893, 0.9876), (0.987, 0.988, 0.986),
                "random windows: 812 of 1045 test windows share samples with windows trained on or validated with, and "
                "1045 are of subjects seen there; accuracy on a new wearer will be lower",
                {"complex": 0.9889, "simple": 0.9944, "simple and complex": 0.9878}, "a paper of 2021, on other data",
            ),
            Protocol("leave one subject out", "cnn_bigru", tuple(draw.uniform(0.85, 1, 30)), tuple([0.93] * 30)),
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def recognizing(example: Report) -> Report:
    """Networks over seeds and their ladders; sides and layers are those of one pruned network."""
    found = make_recognition()
    return dataclasses.replace(
        example, study="har", title="cnn_bigru on hapt, basic activities: 90 % of weights removed", dataset="hapt",
        recognition=found, trade_off=None, rounds=(), search=None, history=(), baselines=Baselines(),
        config={"units": 128},
    )  # fmt: skip
