# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Iterators of BPF: programs that the kernel runs for each object of a kind, when they are read."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import TypeVar

from udpgrm.kernel import libbpf

_READ_BYTES = 1 << 16
_Record = TypeVar("_Record", bound=ctypes.Structure)


def read(link: int) -> bytes:
    """Run an iterator in this thread's network namespace; return all that it emits."""
    fd = libbpf.iterator_run(link)
    try:
        chunks: list[bytes] = []
        while True:
            try:
                chunk = os.read(fd, _READ_BYTES)
            except BlockingIOError:  # after each million of objects
                continue
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
    finally:
        os.close(fd)


def records(link: int, kind: type[_Record]) -> Iterator[_Record]:
    """Yield the records of one structure that an iterator emits."""
    data, size = read(link), ctypes.sizeof(kind)
    for start in range(0, len(data) - size + 1, size):
        yield kind.from_buffer_copy(data, start)
