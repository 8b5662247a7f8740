"""QMRA (Lin et al., AAAI 2021) in JAX and Flax: a box in one frame becomes a mask in every frame.

`build_model(config.model)` gives the network, `load(path)` a trained one, `save(path, ...)` keeps
one.
Names are imported when first used, so that what needs no JAX (boxes, masks, metrics) loads none.
"""

import importlib

_HOME = {
    "QMRA": "network.model",
    "Memory": "network.model",
    "build_model": "network.build",
    "InputError": "errors",
    "load": "weights.safetensors_model",
    "save": "weights.safetensors_model",
    "Propagator": "inference.propagator",
    "propagate_video": "inference.frame_loop",
    "Explanation": "explain.explanation",
    "explain_frame": "explain.frame",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    try:  # `import qmra_jax; qmra_jax.weights.to_torch(...)`
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
