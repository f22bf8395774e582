# SPDX-License-Identifier: Apache-2.0
"""Reading a BPF ring buffer, one record at a time.

The kernel's positions are the only state: a record is consumed after it was
dealt with, so a killed reader's successor sees it again. Source: Linux
Documentation/bpf/ringbuf.rst.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = struct.Struct("=II")
_POSITION = struct.Struct("=Q")


class RingBuffer:
    """Consumer side of a ring buffer map of `size` bytes."""

    def __init__(self, fd: int, size: int) -> None:
        """Map the positions and the data (twice in a row, so records never wrap)."""
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._consumer = mmap.mmap(fd, page)
        self._data = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)

    def records(self) -> Iterator[bytes]:
        """The records there are now; each is consumed when the next is asked for."""
        page = mmap.PAGESIZE
        position: int = _POSITION.unpack_from(self._consumer)[0]
        end: int = _POSITION.unpack_from(self._data)[0]
        while position < end:
            start = page + (position & self._mask)
            length, _ = _HEADER.unpack_from(self._data, start)
            if length & _BUSY:
                return
            size = length & ~(_BUSY | _DISCARDED)
            if not length & _DISCARDED:
                yield bytes(self._data[start + 8 : start + 8 + size])
            position += (size + 8 + 7) & ~7
            _POSITION.pack_into(self._consumer, 0, position)
