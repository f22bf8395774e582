# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Which errors are the machine's at the moment, and not of what was asked for."""

from __future__ import annotations

import errno

from udpgrm.build.cache import Unavailable

#: What the kernel says where it lets no program in for want of memory for its machine code.
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
    """Whether the same may succeed when the machine has memory, descriptors or room again."""
    if isinstance(error, OSError):
        return error.errno in _MACHINES
    if isinstance(error, RuntimeError):  # the limit of processes is reached
        return "start new thread" in str(error)
    return isinstance(error, (MemoryError, Unavailable))
