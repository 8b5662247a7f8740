"""TFDS builder; see msra10k_dataset_builder.py."""
