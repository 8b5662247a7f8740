"""Compiled programs that outlive the process which compiled them."""

import os
import platform
from pathlib import Path

import jax


def keep_compiled_programs() -> Path:
    """Lets JAX keep what takes longer than a second to compile, for the next process to load.

    In `$JAX_COMPILATION_CACHE_DIR`, or else in a folder of this machine's name below
    `$XDG_CACHE_HOME/qmra-jax`, by default `~/.cache/qmra-jax`: a program compiled for one CPU need
    not run on another that shares the home directory. JAX_ENABLE_COMPILATION_CACHE=false turns it
    off. What has not been used can be deleted at any time.

    To be called before anything is compiled.

    Returns:
      the folder.
    """
    if given := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "qmra-jax" / (platform.node() or "machine")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
