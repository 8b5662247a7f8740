import subprocess
import sys

PROGRAM = """
import resource
import sys

import numpy as np

from qmra_jax.host_memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    raise SystemExit("no glibc")


def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


first = new_pages()
print(first, min(new_pages() for _ in range(3)))
"""


def pages(mode):
    """New pages of the first and of a later allocation; None where the system is another one."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=False
    )
    if "no glibc" in run.stderr:
        return None
    assert run.returncode == 0, run.stderr
    return [int(count) for count in run.stdout.split()]


def test_a_large_block_that_was_freed_is_used_again_without_new_pages():
    kept = pages("keep")
    if kept is None:
        return
    first, later = kept
    assert later < first / 4
    first, later = pages("leave")  # what the system does by itself, or nothing was gained
    assert later > first / 2
