"""Training triplets and evaluation videos, with neither jax nor flax: hosts are plain numbers."""
