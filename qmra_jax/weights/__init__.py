"""Weights files: ours, PyTorch's names and layouts, ImageNet's encoders, STM's checkpoint.

    module, variables, config = load("qmra-small.safetensors")
    state = to_torch(variables)  # for PyTorch: load_state_dict(strict=True)
    variables = from_torch(read_state("qmra.pth"), config)
    variables = load_encoders(variables, "resnet18-f37072fd.pth")  # see imagenet.py: where from

Names are imported when first used: a file's metadata is read without JAX.
"""

import importlib

_HOME = {
    "from_torch": "torch_names",
    "load": "safetensors_model",
    "load_encoders": "imagenet",
    "read_metadata": "state_dict_files",
    "read_state": "state_dict_files",
    "save": "safetensors_model",
    "suited_short_side": "safetensors_model",
    "to_torch": "torch_names",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
