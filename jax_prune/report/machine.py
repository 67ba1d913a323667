"""Which software and hardware a run had, for the report's ``versions``."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import jax_prune

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages and python; platform, cpu_count, machine, and the device if JAX is in use."""
    found = {name: _version(name) for name in PACKAGES}
    found |= {"python": platform.python_version(), "jax_prune": jax_prune.__version__}
    found |= {"platform": platform.platform(), "cpu_count": str(os.cpu_count() or 1), "machine": _processor()}
    return found | _device()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {names[0]}" if names else platform.machine()


def _device() -> dict[str, str]:
    # Only a run that computed has JAX loaded; reading a report must not start a backend.
    if "jax" not in sys.modules:
        return {}
    device = sys.modules["jax"].devices()[0]
    return {"device": f"{device.platform} {device.device_kind}"}
