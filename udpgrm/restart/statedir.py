# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The directory of restarts' state, with files named after services."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from udpgrm import names
from udpgrm.kernel import trust

_DIRECTORY = "/var/lib/udpgrm/restarts"


class JournalError(Exception):
    """Raised when a journal cannot be read; says why, and what to do."""


def directory() -> Path:
    """Return the directory of the journals: /var/lib/udpgrm/restarts, or UDPGRM_STATE_DIR."""
    return Path(os.environ.get("UDPGRM_STATE_DIR", _DIRECTORY))


def is_name(text: str) -> bool:
    """Return whether a text is the name of a service, or of a superseded restart."""
    return names.RESTART.fullmatch(text) is not None


def path_of(service: str, suffix: str = ".json") -> Path:
    """Return the path of a service's file.

    Raises JournalError for an impossible name of a service, and for a directory that a user
    other than root can change.
    """
    if not is_name(service):
        raise JournalError(f"no service name: {service!r} (a-z, 0-9, - and _)")
    where = directory()
    with contextlib.suppress(FileNotFoundError):
        reason = trust.distrusted(where)
        if reason is not None:
            raise JournalError(f"cannot use the state directory {where}: {reason}")
    return where / f"{service}{suffix}"
