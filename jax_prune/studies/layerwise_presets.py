"""The settings of ``layerwise`` for each net; the LeNets' chosen on MNIST's validation split alone.

``default`` trains without augmentation; its tuning asks the dense nets, not labels, about shifted images too.
``record`` shifts images by a pixel with their labels, dense and pruned alike: what the record holders' absolute errors
are compared with. ``compare`` carries every allocation through a shorter pipeline. ``narrow`` is for two CPU cores what
the default of AlexNet and VGG16 is for a GPU, with fewer channels and steps; both are settings that nothing was tried
for.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

RIVALS = "random,uniform,erk,lamp,global"

LENET5: Settings = {
    "dense_steps": 2000,
    "dense_rate": 2e-3,
    "committee": 3,
    "tune_rate": 3e-3,
    "population": 16,
    "generations": 9,
    "calibration": 1000,
    "taught_shift": 1,
    "taught_share": 0.5,
    "neighbour_weight": 0.0,
}

# the seed's other networks, in their versions for 32 pixels: AlexNet at 29x, VGG16 at 12x
CIFAR10: Settings = {
    "dataset": "cifar10",
    "committee": 1,
    "distillation": 0.5,
    "shift": 2,
    "taught_shift": 2,
    "taught_share": 0.5,
    "neighbour_weight": 0.0,
    "score": "magnitude",
    "biases": False,
}
ON_GPU: Settings = {
    "optimizer": "sgd",
    "dense_steps": 30_000,
    "dense_rate": 0.05,
    "tune_rate": 0.02,
    "weight_decay": 5e-4,
    "rounds": 5,
    "round_steps": 4000,
    "final_steps": 20_000,
}
ON_CPU: Settings = {
    "dense_steps": 2000,
    "tune_rate": 2e-3,
    "rounds": 3,
    "round_steps": 300,
    "final_steps": 1500,
    "population": 16,
    "generations": 9,
    "calibration": 1000,
}

PRESETS: dict[str, dict[str, Settings]] = {
    "lenet300": {
        "default": {},
        "record": {
            "compression": 116.0,
            "committee": 1,
            "dense_steps": 6500,
            "tune_rate": 5e-3,
            "rounds": 12,
            "round_steps": 2500,
            "final_steps": 20_000,
            "shift": 1,
            "taught_shift": 1,
            "taught_share": 0.5,
            "neighbour_weight": 0.0,
            "distillation": 0.7,
            "temperature": 2.0,
            "recovery_until": 0.6,
        },
        "compare": {
            "compare": RIVALS,
            "committee": 1,
            "dense_steps": 5000,
            "taught_share": 0.5,
            "neighbour_weight": 0.0,
            "rounds": 5,
            "round_steps": 1000,
            "final_steps": 4000,
        },
    },
    "lenet5": {
        "default": LENET5 | {"compression": 61.0, "rounds": 5, "round_steps": 800, "final_steps": 7000},
        "record": LENET5
        | {
            "compression": 300.0,
            "committee": 1,
            "tune_rate": 4e-3,
            "rounds": 10,
            "round_steps": 600,
            "final_steps": 8000,
            "shift": 1,
            "taught_shift": 1,
            "distillation": 0.7,
            "temperature": 2.0,
            "recovery_until": 0.6,
        },
        "compare": LENET5
        | {"compression": 64.0, "rounds": 3, "round_steps": 400, "final_steps": 800, "compare": RIVALS},
    },
    "alexnet_cifar": {
        "default": CIFAR10 | ON_GPU | {"compression": 29.0},
        "narrow": CIFAR10 | ON_CPU | {"compression": 29.0, "width": 0.25},
    },
    "vgg16_cifar": {
        "default": CIFAR10 | ON_GPU | {"compression": 12.0},
        "narrow": CIFAR10 | ON_CPU | {"compression": 12.0, "width": 0.125},
    },
}


def presets_of(net: str) -> dict[str, Settings]:
    """The presets for a net of the zoo; a net of one's own starts from LeNet-300-100's."""
    return PRESETS.get(net, PRESETS["lenet300"])
