# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Limits of descriptors and file sizes: explanations of their errors, and what to do."""

from __future__ import annotations

import errno
import resource
from typing import Optional

#: Descriptors for a daemon, and for a few hundred sockets that tubular has not taken yet.
_ENOUGH = 1024


def explain(error: BaseException) -> str:
    """Return an error's message; if a limit is the reason, also what to do."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    advice = _advice(error)
    return text if advice is None else f"{text}: {advice}"


def _advice(error: BaseException) -> Optional[str]:
    """Return what to do for an error that a limit has caused; None: it has another cause."""
    cause: Optional[BaseException] = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        if number == errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            wanted = max(_ENOUGH, 2 * limit)
            return (
                f"the limit of {limit} file descriptors is reached: set LimitNOFILE={wanted} in "
                f"the unit, or run `ulimit -n {wanted}` in the shell"
            )
        if number == errno.ENFILE:
            return "the kernel's file table is full: raise fs.file-max (sysctl)"
        if number == errno.EFBIG:
            return "the limit of file sizes is reached: raise it (LimitFSIZE=, `ulimit -f`)"
        cause = cause.__cause__
    return None
