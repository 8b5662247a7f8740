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


def pages(mode, platforms="cpu"):
    """New pages of the first and of a later allocation."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        env=os.environ | {"JAX_PLATFORMS": platforms},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [int(count) for count in run.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_a_large_block_that_was_freed_is_used_again_without_new_pages():
    first, later = pages("keep")
    assert later < first / 4
    first, later = pages("keep", platforms="cuda")  # an accelerator's host stays as it is
    assert later > first / 2
    first, later = pages("leave")  # what the system does by itself, or nothing was gained
    assert later > first / 2
