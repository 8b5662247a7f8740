"""Builds the sdist and the wheel, installs the wheel without extras, and segments a clip with it.

All of it happens in a temporary folder outside the checkout; `make test-wheel` calls this.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = ("tensorflow", "tensorflow_datasets", "tensorboard", "matplotlib", "torch")
# What importing the package and segmenting must not load, even where it is installed.
NOT_LOADED = (*NOT_INSTALLED, "optax", "orbax", "pandas")


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command that must succeed, without the checkout in Python's path."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Raises SystemExit if anything fails."""
    with tempfile.TemporaryDirectory() as folder:
        work, built = Path(folder, "empty"), Path(folder, "built")
        work.mkdir()
        # The wheel is built from the sdist, so this tests both.
        run(sys.executable, "-m", "build", "--outdir", built, ROOT, cwd=work)
        (wheel,) = built.glob("*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")

        venv.create(Path(folder, "env"), with_pip=True)
        binaries = Path(folder, "env", "bin")
        python = binaries / "python"
        lock = ROOT / "requirements.lock"
        run(python, "-m", "pip", "install", "-q", "-c", lock, wheel, cwd=work)

        missing = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
        assert run(python, "-c", missing.format(NOT_INSTALLED), cwd=work).strip() == "[]"
        assert run(python, "-c", missing.format(("configs",)), cwd=work).strip() == "[]"

        make = ("-m", "data_pipeline.synthetic", "--output", "videos", "--count", "1")
        run(python, *make, "--height", "96", cwd=work)
        (frames,) = Path(work, "videos/JPEGImages/480p").iterdir()
        mask = work / "videos/Annotations/480p" / frames.name / "00000.png"
        segment = (frames, "--mask", mask, "--output", "out", "--short-side", "96")
        print(run(binaries / "qmra", "segment", *segment, cwd=work).strip())
        first = np.asarray(Image.open(work / "out/masks/00000.png"))
        assert first.any(), "the first mask is empty"

        loaded = (
            "import sys; from qmra_jax.cli import main\n"
            "try: main(sys.argv[1:])\n"
            f"finally: print('loaded', [n for n in {NOT_LOADED} if n in sys.modules])"
        )
        again = ("segment", *segment, "--overwrite")
        assert "loaded []" in run(python, "-c", loaded, *again, cwd=work)
    print("the wheel works without extras")


if __name__ == "__main__":
    main()
