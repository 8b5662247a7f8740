import subprocess
import sys

import pytest

import qmra_jax
from qmra_jax import weights


@pytest.mark.parametrize("package", [qmra_jax, weights])
def test_public_names_and_submodules_are_attributes(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert name in dir(package)
    assert qmra_jax.weights.torch_names.to_torch is weights.to_torch
    with pytest.raises(AttributeError, match=f"'{package.__name__}' .*'nothing'"):
        _ = package.nothing


def test_metadata_is_read_without_jax():
    code = "import sys; from qmra_jax.weights import read_metadata; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
