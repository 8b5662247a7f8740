"""TFDS builder; see soc_dataset_builder.py."""
