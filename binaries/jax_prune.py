"""The command line as a plain script, for clusters that start files: python binaries/jax_prune.py STUDY --workdir=W."""

from jax_prune.cli import console

if __name__ == "__main__":
    console()
