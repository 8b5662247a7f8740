"""TFDS builder; see image_masks_dataset_builder.py."""
