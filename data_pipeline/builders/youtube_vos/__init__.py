"""TFDS builder; see youtube_vos_dataset_builder.py."""
