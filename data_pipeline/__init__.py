"""Training triplets and evaluation videos, with neither jax nor flax: hosts are plain numbers."""

import os

# Before any module imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no banners at import
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one more banner; it computes nothing here
