# SPDX-License-Identifier: Apache-2.0
"""Reader of a BPF ring buffer that reads ahead of what is consumed.

The kernel's positions are the only persistent state: a record is consumed after
it was served, so the reader after a killed one reads it again. Source: Linux
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
    """The consumer side of a ring buffer map of `size` bytes."""

    def __init__(self, fd: int, size: int) -> None:
        """Map the positions and the data, once: a second time would count as memory in use."""
        page = mmap.PAGESIZE
        self._size = size
        self._consumer = mmap.mmap(fd, page)
        self._data = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._position: int = _POSITION.unpack_from(self._consumer)[0]

    def consume(self, position: int) -> None:
        """Release the room of all records up to this end of one."""
        _POSITION.pack_into(self._consumer, 0, position)

    def ahead(self) -> Iterator[tuple[int, Optional[bytes]]]:
        """Yield the records that have arrived since, each with its end; None: a discarded one."""
        end: int = _POSITION.unpack_from(self._data)[0]
        while self._position < end:
            # headers do not wrap: records begin at multiples of 8 bytes
            length, _ = _HEADER.unpack(self._bytes(self._position, _HEADER.size))
            if length & _BUSY:
                return
            size = length & ~(_BUSY | _DISCARDED)
            begin = self._position + _HEADER.size
            self._position += (size + _HEADER.size + 7) & ~7
            yield self._position, None if length & _DISCARDED else self._bytes(begin, size)

    def _bytes(self, position: int, length: int) -> bytes:
        """Return some of the data, which wraps around."""
        start = mmap.PAGESIZE + position % self._size
        found = bytes(self._data[start : start + length])
        lacking = length - len(found)
        return found + bytes(self._data[mmap.PAGESIZE : mmap.PAGESIZE + lacking])
