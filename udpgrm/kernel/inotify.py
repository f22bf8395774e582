# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Notification of new directories: inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_CREATE = 0x100
_ONLYDIR = 0x01000000
_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Notifies when something is created in any of some directories."""

    def __init__(self) -> None:
        """Watch nothing yet. Raises OSError if the user's instances are exhausted."""
        self._fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "cannot watch cgroups: inotify_init1")
        self._watched: dict[Path, int] = {}

    def fileno(self) -> int:
        """Return the descriptor that is readable when something was created."""
        return self._fd

    def clear(self) -> None:
        """Discard the events until now."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, 1 << 16):
                pass

    def watch(self, directories: set[Path]) -> None:
        """Watch these directories and no others; removed ones are omitted."""
        for path in self._watched.keys() - directories:
            _libc.inotify_rm_watch(self._fd, self._watched.pop(path))
        for path in directories:
            # again for known paths: the directory may be another one by now
            number = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), _CREATE | _ONLYDIR))
            if number < 0:
                self._watched.pop(path, None)
            else:
                self._watched[path] = number
