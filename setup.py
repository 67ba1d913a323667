"""What jax-prune is and what it needs; tool settings are in pyproject.toml, exact versions in requirements.lock."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """``__version__`` as jax_prune/__init__.py states it, read without importing the package."""
    text = (ROOT / "jax_prune" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("jax_prune/__init__.py states no __version__")
    return found[1]


def readme() -> str:
    """README.md, or nothing where it was left out of a copy."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# The lower bounds are the set that requirements-oldest.txt pins and CI runs the compat tests against.
BASE = [
    "absl-py>=2.1",
    "chex>=0.1.89",
    "evosax>=0.2.0",
    "flax>=0.11.2",
    "jax>=0.6.0",
    "numpy>=2.0",
    "optax>=0.2.4",
    "rich>=13.0",
    "safetensors>=0.4.3",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "tensorflow-datasets>=4.9.10",
    "zstandard>=0.22",
]
EXTRAS = {
    # Reading and preparing tensorflow-datasets without TensorFlow.
    "data": ["array_record>=0.8; platform_system != 'Windows'", "pillow>=10.3"],
    # The packed format is safetensors and zstandard, which the base has; targets beyond it go here.
    "deploy": [],
    "report": ["matplotlib>=3.9", "plotly>=5.22"],
    # An oracle: torch is used where it is installed and skipped where not.
    "test": ["hypothesis>=6.100", "mypy>=1.11", "pymoo>=0.6.1", "pytest>=8.2", "pytest-xdist>=3.6", "ruff>=0.6"],
    "bench": ["torch>=2.4"],
}

setup(
    name="jax-prune",
    version=version(),
    description="Finds how much every layer of a JAX/Flax network can lose, and takes it away",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=find_packages(include=["jax_prune", "jax_prune.*"]),
    package_data={
        "jax_prune": [
            "py.typed",
            "datasets/**/*.xz",
            "datasets/**/*.md",
            "report/**/*.html",
            "report/**/*.css",
        ]
    },
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["jax-prune = jax_prune.cli:console"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
