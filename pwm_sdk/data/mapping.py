"""Files mapped into memory, of which only so much stays in it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["MappedFiles"]

_PARTS = 32  # of a file, let go of in turn
_STATUS = Path("/proc/self/statm")
# Linux counts a private mapping against memory unless told not to; Python has no name for the flag.
_NO_RESERVE = 0x4000 if os.uname().sysname == "Linux" else 0


class MappedFiles:
    """Maps files and lets go of what was read of them.

    Pages that are read stay in a process's resident memory as long as the system has room, up to
    the size of the files. `trim` gives some back once they are too many; the system may go on
    keeping them as its cache of the files, so that reading them again is cheap. No more are given
    back than need be: of files slightly larger than the limit most pages stay where they are.

    Args:
        limit: bytes of mapped files that may stay resident; what cannot be measured, outside Linux,
            is left to the system.
    """

    def __init__(self, limit: int = 512 << 20) -> None:
        self.limit = limit
        self._maps: list[mmap.mmap] = []
        self._others, self._part = _resident(), 0

    def map(self, path: Path, dtype: torch.dtype, shape: tuple[int, ...], random: bool) -> Tensor:
        """Return the contents of a file.

        Whoever writes into the tensor changes a copy of that place, not the file, until `trim`.

        Args:
            path: the file, of as many bytes as the tensor.
            dtype: of the tensor.
            shape: of the tensor.
            random: rows will be read in random order, so reading ahead is of no use.
        """
        with path.open("rb") as file:
            buffer = mmap.mmap(
                file.fileno(),
                0,
                flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        if random:
            buffer.madvise(mmap.MADV_RANDOM)
        self._maps.append(buffer)
        return torch.frombuffer(buffer, dtype=dtype).view(shape)

    def trim(self) -> bool:
        """Let go of pages if more than `limit` bytes are resident; tells whether it did.

        Part after part of all files, going on where it stopped the last time, until few enough are
        left.
        """
        if _resident() - self._others <= self.limit:
            return False
        for _ in range(_PARTS):
            self._release(self._part)
            self._part = (self._part + 1) % _PARTS
            if _resident() - self._others <= self.limit:
                return True
        self._others = _resident()  # such as the code of libraries: not ours to let go of
        return True

    def _release(self, part: int) -> None:
        """Let go of the pages of one part of every file."""
        for buffer in self._maps:
            pages = -(-len(buffer) // mmap.PAGESIZE)
            begin, end = (pages * i // _PARTS * mmap.PAGESIZE for i in (part, part + 1))
            if begin < end:
                buffer.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def _resident() -> int:
    """Bytes of files in this process's resident memory; 0 where the system does not tell."""
    if not _NO_RESERVE:
        return 0
    return int(_STATUS.read_text().split()[2]) * mmap.PAGESIZE
