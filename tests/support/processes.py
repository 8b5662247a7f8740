"""What tests ask of other processes."""

import subprocess


def complaints(done: subprocess.CompletedProcess) -> str:
    """What a process wrote on stderr, less OpenCV's own word on `OPENCV_CPU_DISABLE`."""
    lines = done.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("OPENCV: "))
