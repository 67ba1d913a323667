"""``python -m jax_prune``: the same as the command ``jax-prune``."""

from jax_prune.cli import console

if __name__ == "__main__":
    console()
