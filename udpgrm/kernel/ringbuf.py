# SPDX-License-Identifier: Apache-2.0
"""Reading a BPF ring buffer ahead of what is consumed.

The kernel's positions are the only state that lasts: a record is consumed after
it was dealt with, so a killed reader's successor sees it again. Source: Linux
Documentation/bpf/ringbuf.rst.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Optional

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
        self._position: int = _POSITION.unpack_from(self._consumer)[0]

    def consume(self, position: int) -> None:
        """Give back the room of all records up to this end of one."""
        _POSITION.pack_into(self._consumer, 0, position)

    def ahead(self) -> Iterator[tuple[int, Optional[bytes]]]:
        """Read the records that have come since, each with its end; None for a discarded one."""
        page = mmap.PAGESIZE
        end: int = _POSITION.unpack_from(self._data)[0]
        while self._position < end:
            start = page + (self._position & self._mask)
            length, _ = _HEADER.unpack_from(self._data, start)
            if length & _BUSY:
                return
            size = length & ~(_BUSY | _DISCARDED)
            self._position += (size + 8 + 7) & ~7
            whole = not length & _DISCARDED
            yield self._position, bytes(self._data[start + 8 : start + 8 + size]) if whole else None
