import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys

import numpy as np

from qmra_jax.runtime.host_memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()


def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


first = new_pages()
print(first, min(new_pages() for _ in range(3)))
"""


def start(mode, platforms="cpu"):
    """A process that prints the new pages of a first and of a later allocation."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode],
        env=os.environ | {"JAX_PLATFORMS": platforms},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets options of glibc")
def test_large_freed_block_is_reused_without_new_pages():
    """Only on a CPU: the host of an accelerator, and a process without it, allocate anew."""
    running = start("keep"), start("keep", platforms="cuda"), start("leave")
    pages = [[int(n) for n in process.communicate(timeout=120)[0].split()] for process in running]
    reused = [later < first / 4 for first, later in pages]
    anew = [later > first / 2 for first, later in pages]
    assert reused == [True, False, False]
    assert anew == [False, True, True]
