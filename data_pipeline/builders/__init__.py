"""TFDS builders of the paper's datasets; `python -m data_pipeline.build --list` names them."""
