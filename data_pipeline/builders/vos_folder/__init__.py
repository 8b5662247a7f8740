"""TFDS builder; see vos_folder_dataset_builder.py."""
