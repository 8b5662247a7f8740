"""Streaming inference: propagates prompted objects through a video, frame by frame."""
