"""TFDS builder; see davis2016_dataset_builder.py."""
