"""The settings of ``layerwise`` for each net, chosen on MNIST's validation split alone."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

PRESETS: dict[str, dict[str, Settings]] = {
    "lenet300": {"default": {}, "record": {}, "compare": {}},
    "lenet5": {"default": {}, "record": {}, "compare": {}},
}
