# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The connection of a probe over TCP: one for each attempt, all from one port."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from typing import Optional

from udpgrm.probes import reach, specs
from udpgrm.probes.reach import Source
from udpgrm.probes.specs import ProbeSpec
from udpgrm.state import address as addresses

#: Closes with a reset: the port is free for the next attempt at once.
_RESET = struct.pack("ii", 1, 0)


class StreamLink:
    """Connections from one port, with what runner.Link has; the port is known before the first."""

    def __init__(self, spec: ProbeSpec, address: str, source: Optional[Source]) -> None:
        """Bind a port. Raises OSError if the addresses cannot be used."""
        self._address = address
        self._timeout_s = spec.timeout_s
        self._has_length = isinstance(spec, specs.DnsProbe)
        self._expects_reply = not isinstance(spec, specs.ConnectProbe)
        self._socket, self._peer = reach.open_socket(address, source or _source_to(address))
        self._is_fresh = True
        self._bound: Source = self._socket.getsockname()[:2]
        self.target: Source = reach.without_zone(self._peer)
        self.source: Source = reach.without_zone(self._bound)
        self.reset()

    def reset(self) -> None:
        """Begin a question."""
        self.sent = b""
        self.received: Optional[bytes] = None
        self.attempts = 0

    def discard(self) -> None:
        """Do nothing: an earlier question's answers end with its connection."""

    def send(self, message: bytes) -> None:
        """Connect, and send a message. Raises OSError."""
        if not self._is_fresh:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._socket.close()
            self._socket, _ = reach.open_socket(self._address, self._bound)
        self._is_fresh = False
        self._socket.settimeout(self._timeout_s)
        self._socket.connect(self._peer)
        self.sent = message
        length = len(message).to_bytes(2, "big") if self._has_length else b""
        self._socket.sendall(length + message)

    def receive(self, deadline: float) -> Optional[bytes]:
        """Return the answer until a time of time.monotonic(), or None. Raises OSError."""
        if not self._expects_reply:
            return b""
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            if self._has_length:
                length = int.from_bytes(self._exactly(2), "big")
                self.received = self._exactly(length)
            else:
                self.received = self._exactly(len(self.sent))
        except socket.timeout:
            return None
        return self.received

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._socket.recv(count - len(content))
            if not part:
                raise OSError(errno.ECONNRESET, "the connection was closed without an answer")
            content += part
        return content

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _source_to(address: str) -> Source:
    """Return the (ip, 0) that the kernel would send from. Raises OSError."""
    sock, target = reach.open_socket(str(addresses.read(address)._replace(tcp=False)), None)
    with sock:
        sock.connect(target)
        return sock.getsockname()[0], 0
