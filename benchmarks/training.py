"""Training steps a second on LeNet-300-100, batch 128: this package against PyTorch given its best.

Both train on all 55,000 MNIST images held in memory, with Adam. PyTorch: tensors preloaded, fused Adam, eager
and torch.compile, the better of the two counts. Measured in turn in one process pair, after a warm-up; medians.

Command: python benchmarks/training.py --out=docs/results/training_speed.json   (needs torch: pip install torch)
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from absl import app, flags

from jax_prune.report import versions

RUNS = flags.DEFINE_integer("runs", 5, "timed epochs of each; the median counts")
OUT = flags.DEFINE_string("out", None, "file for the JSON result")
ONLY = flags.DEFINE_enum("only", None, ["jax_prune", "torch_eager", "torch_compile"], "time one, print seconds")

STEPS = 400
BATCH = 128


def main(_: list[str]) -> None:
    if ONLY.value:
        print(
            json.dumps(
                {"jax_prune": time_jax_prune, "torch_eager": time_torch, "torch_compile": time_compiled}[ONLY.value]()
            )
        )
        return
    seconds = {name: _in_own_process(name) for name in ("jax_prune", "torch_eager", "torch_compile")}
    medians = {name: STEPS / statistics.median(times) for name, times in seconds.items()}
    best = max(medians["torch_eager"], medians["torch_compile"])
    result = {
        "command": "python benchmarks/training.py",
        "steps_per_second": medians,
        "spread": {name: [STEPS / max(times), STEPS / min(times)] for name, times in seconds.items()},
        "ratio": medians["jax_prune"] / best,
        "versions": versions() | {"torch": metadata.version("torch")},
    }
    print(json.dumps(result, indent=2))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def _in_own_process(name: str) -> list[float]:
    command = [sys.executable, __file__, f"--only={name}", f"--runs={RUNS.value}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def time_jax_prune() -> list[float]:
    import jax

    from jax_prune import datasets, learning, nets

    data = jax.device_put(datasets.load("mnist").train)
    net = nets.build("lenet300")

    def epoch(seed: int) -> None:
        trained = learning.train(
            jax.random.key(seed),
            net,
            data,
            learning.Recipe(batch_size=BATCH),
            loss=learning.cross_entropy,
            steps=STEPS,
        )
        jax.block_until_ready(trained.net.params)

    return _timed(epoch)


def time_torch(compiled: bool = False) -> list[float]:
    import torch

    from jax_prune import datasets

    torch.manual_seed(0)
    data = datasets.load("mnist").train
    images = torch.tensor(data.x).reshape(-1, 784).float() / 255
    labels = torch.tensor(data.y).long()
    layers = [torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 100), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(100, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(net(x), y)

    step_loss = torch.compile(loss) if compiled else loss

    def epoch(_: int) -> None:
        for index in torch.randperm(len(images))[: STEPS * BATCH].view(STEPS, BATCH):
            optimizer.zero_grad(set_to_none=True)
            step_loss(images[index], labels[index]).backward()
            optimizer.step()

    return _timed(epoch)


def time_compiled() -> list[float]:
    return time_torch(compiled=True)


def _timed(epoch) -> list[float]:  # noqa: ANN001
    epoch(0)
    times = []
    for run in range(RUNS.value):
        start = time.perf_counter()
        epoch(run)
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    app.run(main)
