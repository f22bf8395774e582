# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Directories that come into being: inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_CREATE = 0x100
_ONLYDIR = 0x01000000
_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Tells when something is created in any of some directories."""

    def __init__(self) -> None:
        """Watch nothing yet. Raises OSError when the user has no instance left."""
        self._fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "cannot watch cgroups: inotify_init1")
        self._watched: dict[Path, int] = {}

    def fileno(self) -> int:
        """Readable when something was created."""
        return self._fd

    def clear(self) -> None:
        """Take what has happened as seen."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, 1 << 16):
                pass

    def watch(self, directories: set[Path]) -> None:
        """Watch these directories and no others; one that is gone is left out."""
        for path in self._watched.keys() - directories:
            _libc.inotify_rm_watch(self._fd, self._watched.pop(path))
        for path in directories:
            # again for those known: a directory of that path may be another one
            number = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), _CREATE | _ONLYDIR))
            if number < 0:
                self._watched.pop(path, None)
            else:
                self._watched[path] = number
