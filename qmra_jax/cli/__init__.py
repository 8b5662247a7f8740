"""The `qmra` command."""

from qmra_jax.cli.app import main

__all__ = ["main"]
