"""Initial keys that match: a shared, partly whitened PCA of the backbone's features.

Keys of query and memory that start as unrelated random projections hardly match: the softmax of
Eq. 6 starts flat and sharpens slowly. Here the keys of query and memory, in both stages, start as
one projection onto the principal components of the features that they are computed from.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.triplets.examples import open_examples
from qmra_jax.errors import InputError
from qmra_jax.network.model import QMRA

MODES = ("random", "pca")
WHITENING = 0.4  # a component of variance v is scaled by v^-0.4
SELF_MATCH = 20.0  # mean logit of a position with itself, K_q K_m^T / sqrt(c_k)
IMAGES = 256  # to fit the components on


def training_images(config: Any) -> np.ndarray:
    """The frames of a run's first examples, uint8 `[IMAGES, crop, crop, 3]`, RGB.

    They are the same on every host.
    """
    examples = open_examples(config.data, seed=config.seed, global_batch=config.batch_size)
    triplets = [examples(k)[1].images for k in range(-(-IMAGES // 3))]
    return np.concatenate(triplets)[:IMAGES]


def with_pca_keys(model: QMRA, variables: Mapping[str, Any], images) -> dict[str, Any]:
    """Sets the key convolutions of both stages to a PCA of f_q's features.

    Args:
      model: the network.
      variables: its variables, with the encoders already initialised.
      images: training images, uint8 `[n, h, w, 3]`, RGB; h and w are multiples of 16.

    Returns:
      New variables that differ in the keys alone.

    Raises:
      InputError: if there are more key channels than feature channels.
    """
    kernel, bias = fit_keys(_features(model, variables, images), model.key_dim)
    params = dict(variables["params"])
    for stage in ("qma1", "qma2")[: model.stages]:
        stage_params = dict(params[stage])
        for side in ("query_kv", "memory_kv"):
            key = stage_params[side]["key"]
            middle = model.kv_kernel // 2
            shared = jnp.zeros_like(key["kernel"]).at[middle, middle].set(kernel)
            stage_params[side] = {**stage_params[side], "key": {"kernel": shared, "bias": bias}}
        params[stage] = stage_params
    return {**variables, "params": params}


def fit_keys(groups: list[np.ndarray], key_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Projection of features onto their first principal components, partly whitened.

    Args:
      groups: float `[positions, c_i]`, several kinds of features of the same positions. They are
        concatenated, each scaled to unit total variance.
      key_dim: number of components, c_k.

    Returns:
      Kernel, float32 `[sum of c_i, c_k]`, and bias, float32 `[c_k]`.

    Raises:
      InputError: if key_dim exceeds the number of channels.
    """
    channels = sum(group.shape[1] for group in groups)
    if key_dim > channels:
        raise InputError(
            f"init.key_projection pca with model.key_dim {key_dim}: expected at most the"
            f" {channels} channels of the features; reduce it, or use init.key_projection random"
        )
    scales = np.concatenate(
        [np.full(g.shape[1], 1 / np.sqrt(g.var(axis=0, dtype=np.float64).sum())) for g in groups]
    )
    features = np.concatenate(groups, axis=1) * scales
    mean = features.mean(axis=0)
    variances, components = np.linalg.eigh(np.cov(features - mean, rowvar=False))  # ascending
    variances, components = variances[::-1][:key_dim], components[:, ::-1][:, :key_dim]
    projection = components * np.maximum(variances, variances[0] * 1e-8) ** -WHITENING
    match = np.square((features - mean) @ projection).sum(axis=1).mean() / np.sqrt(key_dim)
    projection *= np.sqrt(SELF_MATCH / match)
    bias = -mean @ projection
    return (scales[:, None] * projection).astype(np.float32), bias.astype(np.float32)


def _features(model: QMRA, variables: Mapping[str, Any], images) -> list[np.ndarray]:
    """`QMRA.key_features` of the images, each kind float32 `[positions, c]`."""

    @jax.jit
    def key_features(images):
        images = images.astype(jnp.float32) / 255
        return model.apply(variables, images, method="key_features")

    batches = [key_features(images[i : i + 8]) for i in range(0, len(images) // 8 * 8, 8)]
    kinds = [kind for kind in zip(*batches, strict=True) if kind[0] is not None]
    return [
        np.concatenate([np.asarray(x, np.float32).reshape(-1, x.shape[-1]) for x in kind])
        for kind in kinds
    ]
