"""TFDS builder; see ecssd_dataset_builder.py."""
