"""TFDS builder; see coco_masks_dataset_builder.py."""
