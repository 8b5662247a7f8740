"""The parts of evaluate.py: segmentation on all devices, and a folder of resumable results."""
