# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The example server, but it answers through a socket of another instance that runs.

The client sees nothing wrong. That the answer came from a socket of the wrong
generation only the kernel knows.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import good_server

from udpgrm.kernel import pidfd


def other_socket() -> socket.socket:
    """Return a duplicate of a UDP socket that another echo server has at port 4433."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(path.parent.name)
        if pid == os.getpid() or b"echo_server.py" not in path.read_bytes():
            continue
        for _, fd in pidfd.sockets_of(pid):
            sock = socket.socket(fileno=fd)
            if sock.type == socket.SOCK_DGRAM and sock.family == socket.AF_INET:
                return sock
            sock.close()
    raise SystemExit("there is no other instance")


class WrongServer(good_server.EchoServer):
    """Gets packets itself, and answers as another."""

    def _answer(self, sock: socket.socket, most: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                payload, peer = sock.recvfrom(good_server.DATAGRAM)
                OTHER.sendto(self._prefix + payload, peer)


OTHER = other_socket()
good_server.EchoServer = WrongServer
sys.exit(good_server.main())
