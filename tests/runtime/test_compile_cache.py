"""Where JAX caches compiled programs."""

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


def start(**environment):
    """A new process that compiles something."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=others | {"JAX_PLATFORMS": "cpu"} | environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_cache_is_in_the_users_cache_folder_by_machine_unless_jax_has_another(tmp_path):
    chosen, users, disabled = (tmp_path / name for name in ("chosen", "users", "disabled"))
    running = [
        start(JAX_COMPILATION_CACHE_DIR=str(chosen)),
        start(XDG_CACHE_HOME=str(users)),
        start(XDG_CACHE_HOME=str(disabled), JAX_ENABLE_COMPILATION_CACHE="false"),
    ]
    folders = [Path(process.communicate(timeout=120)[0].strip()) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    machine = Path("qmra-jax", platform.node())
    assert folders == [chosen, users / machine, disabled / machine]
    filled = [folder.exists() and any(folder.iterdir()) for folder in folders]
    assert filled == [True, True, False]
