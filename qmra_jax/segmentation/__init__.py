"""Segments a video from prompts and writes the results to files."""
