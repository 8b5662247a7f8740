"""Training configs: one per file, returned by its `get_config()`."""
