"""The command line as a plain script, for clusters that start files: python binaries/jax_prune.py STUDY --workdir=W."""

import sys
from pathlib import Path

# Python puts this file's folder first on its path, where this file itself would be found as 'jax_prune'.
sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]

from jax_prune.cli import console  # noqa: E402

if __name__ == "__main__":
    console()
