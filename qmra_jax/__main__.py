"""Runs the `qmra` command as `python -m qmra_jax`."""

from qmra_jax.cli import main

main()
