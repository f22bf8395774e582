# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The example server, but it answers nothing: for a host whose canary has to fail."""

from __future__ import annotations

import contextlib
import socket
import sys

import good_server


class SilentServer(good_server.EchoServer):
    """Reads, and says nothing."""

    def _answer(self, sock: socket.socket, most: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                sock.recv(good_server.DATAGRAM)


good_server.EchoServer = SilentServer
sys.exit(good_server.main())
