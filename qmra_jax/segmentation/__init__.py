"""From a video and what was drawn in it to files."""
