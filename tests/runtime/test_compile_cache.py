"""Compiled programs are kept, in a folder that the user may choose."""

import os
import platform
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import jax
from qmra_jax.runtime.compile_cache import keep_compiled_programs

print(keep_compiled_programs())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1)
"""


def compile_something(**environment):
    """The folder that a new process keeps its programs in."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=known | {"JAX_PLATFORMS": "cpu"} | environment,
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(done.stdout.strip())


def test_programs_are_kept_below_the_cache_folder_of_the_user_by_machine(tmp_path):
    folder = compile_something(XDG_CACHE_HOME=str(tmp_path))
    assert folder == tmp_path / "qmra-jax" / platform.node()
    assert any(folder.iterdir())


def test_jax_s_own_settings_come_first(tmp_path):
    chosen = tmp_path / "chosen"
    assert compile_something(JAX_COMPILATION_CACHE_DIR=str(chosen)) == chosen
    assert any(chosen.iterdir())
    unused = compile_something(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false")
    assert not unused.exists() or not any(unused.iterdir())
