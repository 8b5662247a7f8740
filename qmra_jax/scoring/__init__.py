"""Masks against the truth, as the benchmarks' own tools score them, and reports of it."""
