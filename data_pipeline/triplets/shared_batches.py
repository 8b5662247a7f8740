"""Batches in memory that several processes share."""

import dataclasses
import math
import mmap
import os
import tempfile

import numpy as np

_PAGE = 4096  # bytes; batches begin at multiples, so that arrays are aligned for any device


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of batches in one block of memory, slot after slot.

    Attributes:
      batch: examples per batch.
      crop: side of the frames, in pixels.
    """

    batch: int
    crop: int

    @property
    def _arrays(self) -> dict[str, tuple[tuple[int, ...], type]]:
        frames = self.batch, 3, self.crop, self.crop
        return {
            "images": ((*frames, 3), np.uint8),
            "masks": (frames, np.uint8),
            "boxes": ((self.batch, 3, 4), np.int32),
        }

    @property
    def slot_bytes(self) -> int:
        """Size of a slot of one batch."""
        used = sum(math.prod(s) * np.dtype(kind).itemsize for s, kind in self._arrays.values())
        return -(-used // _PAGE) * _PAGE

    def arrays(self, memory: mmap.mmap, slot: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The arrays of a slot, without a copy.

        Returns:
          An array of all the slot's bytes, which lives as long as any view of it; and its views
          `images`, `masks` and `boxes`, as in `stream.open_stream`.
        """
        whole = np.frombuffer(memory, np.uint8, self.slot_bytes, slot * self.slot_bytes)
        arrays: dict[str, np.ndarray] = {}
        start = 0
        for name, (shape, kind) in self._arrays.items():
            size = math.prod(shape) * np.dtype(kind).itemsize
            arrays[name] = whole[start : start + size].view(kind).reshape(shape)
            start += size
        return whole, arrays


def open_memory(size: int) -> int:
    """A file descriptor of `size` bytes of memory that other processes can map.

    It has no name, so nothing remains when the processes end, and it does not count towards
    /dev/shm, which is often limited to 64 MB in containers.
    """
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("qmra-batches")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    os.ftruncate(memory, size)
    return memory
