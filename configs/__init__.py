"""Training configs: one file each, `get_config()` in it."""
