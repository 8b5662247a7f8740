"""Datasets as they lie on disk, raw or built: images, videos and their masks."""
