"""TFDS builder; see duts_dataset_builder.py."""
