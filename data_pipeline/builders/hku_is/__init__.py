"""TFDS builder; see hku_is_dataset_builder.py."""
