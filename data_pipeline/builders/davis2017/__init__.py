"""TFDS builder; see davis2017_dataset_builder.py."""
