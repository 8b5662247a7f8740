"""Weights files: our own format, PyTorch state dicts, ImageNet encoders and STM checkpoints.

    module, variables, config = load("qmra-small.safetensors")
    state = to_torch(variables)  # for PyTorch: load_state_dict(strict=True)
    variables = from_torch(read_state("qmra.pth"), config)
    variables = load_encoders(variables, "resnet18-f37072fd.pth")  # source: see imagenet.py

Names are imported on first access: reading a file's metadata does not load JAX.
"""

from qmra_jax.lazy_imports import lazy_getattr

_MODULES = {
    "from_torch": "torch_names",
    "load": "safetensors_model",
    "load_encoders": "imagenet",
    "read_metadata": "state_dict_files",
    "read_state": "state_dict_files",
    "save": "safetensors_model",
    "to_torch": "torch_names",
}

__all__ = sorted(_MODULES)
__getattr__ = lazy_getattr(__name__, _MODULES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
