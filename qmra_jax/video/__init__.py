"""Reads frames from videos and image folders, and writes videos."""
