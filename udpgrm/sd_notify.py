# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Notifications to the service manager: sd_notify(3), and its descriptor store."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Optional

#: SCM_MAX_FD of the kernel: descriptors in one message.
_AT_ONCE = 253


def address() -> Optional[str]:
    """Return $NOTIFY_SOCKET, a path or @ and an abstract name; None: no service manager."""
    return os.environ.get("NOTIFY_SOCKET") or None


def send(where: str, text: str) -> None:
    """Send a notification to an address(). Raises OSError."""
    with _connected(where) as channel:
        channel.send(text.encode())


def store(where: str, name: str, sockets: Sequence[socket.socket]) -> None:
    """Store sockets under a name, replacing earlier ones of that name.

    The unit needs FileDescriptorStoreMax= and, if the caller is not its main process,
    NotifyAccess=all. Raises OSError.
    """
    with _connected(where) as channel:
        channel.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        for start in range(0, len(sockets), _AT_ONCE):
            fds = [sock.fileno() for sock in sockets[start : start + _AT_ONCE]]
            socket.send_fds(channel, [f"FDSTORE=1\nFDNAME={name}".encode()], fds)


def _connected(where: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        channel.connect("\0" + where[1:] if where[0] == "@" else where)
    except OSError as error:
        channel.close()
        raise OSError(error.errno, error.strerror, f"NOTIFY_SOCKET {where}") from error
    return channel
