# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Transient errors of the machine, as opposed to errors of a request."""

from __future__ import annotations

import errno

from udpgrm.build.cache import Unavailable

#: The kernel's error if it has no memory for a program's machine code.
_ENOTSUPP = 524
_MACHINES = frozenset(
    {
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EAGAIN,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        _ENOTSUPP,
    }
)


def is_machines(error: Exception) -> bool:
    """Return whether a request may succeed once the machine has memory, descriptors or room."""
    if isinstance(error, OSError):
        return error.errno in _MACHINES
    if isinstance(error, RuntimeError):  # the limit of processes is reached
        return "start new thread" in str(error)
    return isinstance(error, (MemoryError, Unavailable))
