"""Puts the default weights into the wheel; pyproject.toml has the rest."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WEIGHTS = Path("weights/qmra-base.safetensors")


class BuildWithWeights(build_py):
    """`build_py`, and the weights file, which in a checkout lies outside the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "qmra_jax/pretrained")
            self.mkpath(str(target))
            self.copy_file(str(WEIGHTS), str(target / WEIGHTS.name))


setup(cmdclass={"build_py": BuildWithWeights})
