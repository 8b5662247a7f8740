"""QMRA (Lin et al., AAAI 2021) in JAX and Flax: a box in one frame becomes a mask in every frame.

`build_model(config.model)` gives the network, `load(path)` a trained one, `save(path, ...)` keeps
one.
Names are imported when first used, so that what needs no JAX (boxes, masks, metrics) loads none.
"""

import importlib

_HOME = {
    "QMRA": "model",
    "Memory": "model",
    "build_model": "model",
    "InputError": "errors",
    "load": "weights",
    "save": "weights",
    "Propagator": "propagate",
    "propagate_video": "both_ways",
    "Explanation": "explanation",
    "explain_frame": "explain",
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
