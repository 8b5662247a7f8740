"""QMRA (Lin et al., AAAI 2021) in JAX and Flax: video object segmentation from one box.

`build_model(config.model)` builds the network, `save(path, ...)` and `load(path)` store and restore
a trained one. Names are imported on first access: boxes, masks and metrics do not load JAX.
"""

from qmra_jax.lazy_imports import lazy_getattr

_MODULES = {
    "QMRA": "network.model",
    "Memory": "network.structures",
    "build_model": "network.build",
    "InputError": "errors",
    "load": "weights.safetensors_model",
    "save": "weights.safetensors_model",
    "Propagator": "inference.propagator",
    "propagate_video": "inference.frame_loop",
    "Explanation": "explain.explanation",
    "explain_frame": "explain.frame",
}

__version__ = "0.1.0"
__all__ = sorted(_MODULES)
__getattr__ = lazy_getattr(__name__, _MODULES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
