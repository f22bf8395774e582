# SPDX-License-Identifier: Apache-2.0
"""The client of systemd's descriptor store: sd_pid_notify_with_fds(3), FDSTORE=1."""

from __future__ import annotations

import socket
from collections.abc import Sequence

#: SCM_MAX_FD of the kernel: descriptors in one message.
_AT_ONCE = 253


def replace(notify_socket: str, name: str, sockets: Sequence[socket.socket]) -> None:
    """Store sockets under a name, replacing earlier ones of that name.

    notify_socket: as in $NOTIFY_SOCKET, a path or @ and an abstract name. The
    unit needs FileDescriptorStoreMax= and, if the caller is not its main
    process, NotifyAccess=all. Raises OSError.
    """
    where = "\0" + notify_socket[1:] if notify_socket[0] == "@" else notify_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(where)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"NOTIFY_SOCKET {notify_socket}") from error
        channel.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        for start in range(0, len(sockets), _AT_ONCE):
            fds = [sock.fileno() for sock in sockets[start : start + _AT_ONCE]]
            socket.send_fds(channel, [f"FDSTORE=1\nFDNAME={name}".encode()], fds)
