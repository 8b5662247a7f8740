"""Runs `python -m benchmarks.ablation`."""

from benchmarks.ablation.sweep import main

main()
