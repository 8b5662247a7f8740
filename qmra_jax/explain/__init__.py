"""Explains predictions: attention over the memory, weights of channels, and a sheet of both."""
