"""The settings of ``layerwise`` for each net, chosen on MNIST's validation split alone.

``default`` trains without augmentation, dense and pruned alike. ``record`` shifts images by a pixel, dense and pruned
alike: what the record holders' absolute errors are compared with. ``compare`` carries every allocation through a
shorter pipeline.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

RIVALS = "random,uniform,erk,lamp,global"

PRESETS: dict[str, dict[str, Settings]] = {
    "lenet300": {
        "default": {},
        "record": {
            "compression": 116.0,
            "rounds": 12,
            "round_steps": 2500,
            "final_steps": 20_000,
            "shift": 1,
            "distillation": 0.7,
            "temperature": 2.0,
            "recovery_until": 0.6,
        },
        "compare": {"compare": RIVALS, "rounds": 5, "round_steps": 1500, "final_steps": 6000},
    },
    "lenet5": {
        "default": {},
        "record": {},
        "compare": {},
    },
}
