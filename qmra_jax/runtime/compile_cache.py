"""JAX's persistent compilation cache."""

import os
import platform
from pathlib import Path

import jax


def keep_compiled_programs() -> Path:
    """Caches programs that take over a second to compile; call before anything is compiled.

    The cache is `$JAX_COMPILATION_CACHE_DIR` if set, else `$XDG_CACHE_HOME/qmra-jax/HOSTNAME`
    (`~/.cache/qmra-jax/HOSTNAME` by default): a program compiled for one CPU may not run on another
    machine that shares the home directory. JAX_ENABLE_COMPILATION_CACHE=false disables it. Its
    files can be deleted at any time.

    Returns:
      The cache directory.
    """
    if user_cache := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return Path(user_cache)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "qmra-jax" / (platform.node() or "machine")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
