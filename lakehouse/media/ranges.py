"""A file of which each part is fetched once."""

from __future__ import annotations

import io
from typing import BinaryIO

__all__ = ["Ranges"]

_BLOCK_NBYTES = 64 << 10  # as FFmpeg's buffer: it reads on from where it is, rarely at a multiple of anything


class Ranges(io.RawIOBase):
    """A file of which each block is fetched once, however often and from wherever it is asked for.

    Parameters
    ----------
    file
        Where the bytes are; closed with this one.

    Attributes
    ----------
    num_reads, nbytes
        Fetched so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._size = file.seek(0, io.SEEK_END)
        self._blocks: dict[int, bytes] = {}
        self.num_reads = 0
        self.nbytes = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Tell the place."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all that follow for a negative one."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        first, last = self._at // _BLOCK_NBYTES, (end - 1) // _BLOCK_NBYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        data = data[self._at - first * _BLOCK_NBYTES : end - first * _BLOCK_NBYTES]
        self._at = end
        return data

    def close(self) -> None:
        """Forget the blocks and close the file."""
        self._blocks.clear()
        self._file.close()
        super().close()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._file.seek(number * _BLOCK_NBYTES)
            self._blocks[number] = self._file.read(_BLOCK_NBYTES)
            self.num_reads += 1
            self.nbytes += len(self._blocks[number])
        return self._blocks[number]
