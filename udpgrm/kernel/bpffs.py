# SPDX-License-Identifier: Apache-2.0
"""Telling a bpf file system from others: statfs(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(directory: Path) -> bool:
    """Whether a directory is in a bpf file system. Raises OSError when it is not there."""
    # struct statfs begins with its type, as a long; 256 bytes hold it everywhere
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(directory), buffer):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return buffer[0] & 0xFFFFFFFF == _MAGIC
