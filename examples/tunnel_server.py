#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sessions in WireGuard's message format that survive a restart of their server.

The index that this server chooses for a session has the udpgrm cookie of the session's
socket in its lower 16 bits. The dissector wireguard reads it in every message, so a
session stays with the process that has its state, also when its client's address
changes. Only the framing is WireGuard's (whitepaper, 5.4): there is no cryptography,
and a session is a counter.

    initiation  1, 0 0 0, sender index, zeros              148 bytes
    response    2, 0 0 0, sender index, receiver index     92 bytes
    transport   4, 0 0 0, receiver index, counter, text

The answer to a transport message is one whose text is ``NAME GENERATION PID NUMBER``;
NUMBER counts the messages of the session that its process has got.
"""

from __future__ import annotations

import argparse
import os
import secrets
import selectors
import socket
import struct
import sys
from typing import Any

import udpgrm.client as grm

INITIATION, RESPONSE, TRANSPORT = 1, 2, 4
INITIATION_SIZE, RESPONSE_SIZE = 148, 92
DATAGRAM = 65535

#: The source address of a datagram.
Peer = Any


class Tunnels:
    """The sessions of one socket.

    Args:
        sock: bound and enrolled.
        prefix: what the text of an answer starts with.
    """

    def __init__(self, sock: socket.socket, prefix: bytes) -> None:
        self._sock = sock
        self._prefix = prefix
        self._cookie = grm.socket_generation(sock).cookie
        # by our index: the peer's index, messages so far
        self._sessions: dict[int, tuple[int, int]] = {}

    def receive(self) -> None:
        """Answer one datagram, unless it is of an unknown session."""
        message, peer = self._sock.recvfrom(DATAGRAM)
        if len(message) == INITIATION_SIZE and message[0] == INITIATION:
            self._begin(message, peer)
        elif len(message) >= 16 and message[0] == TRANSPORT:
            self._carry(message, peer)

    def _begin(self, message: bytes, peer: Peer) -> None:
        (theirs,) = struct.unpack_from("<I", message, 4)
        ours = secrets.randbits(16) << 16 | self._cookie
        self._sessions[ours] = theirs, 0
        response = struct.pack("<III", RESPONSE, ours, theirs)
        self._sock.sendto(response.ljust(RESPONSE_SIZE, b"\0"), peer)

    def _carry(self, message: bytes, peer: Peer) -> None:
        (ours,) = struct.unpack_from("<I", message, 4)
        if ours not in self._sessions:
            return
        theirs, number = self._sessions[ours]
        self._sessions[ours] = theirs, number + 1
        header = struct.pack("<IIQ", TRANSPORT, theirs, number)
        self._sock.sendto(header + self._prefix + b"%d" % (number + 1), peer)


def bind(address: str) -> socket.socket:
    """Make a socket at IP:PORT that shares its port; the operator chooses its dissector."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, int(port)))
    return sock


def notify_ready() -> None:
    """Notify systemd that all sockets are enrolled; without systemd do nothing."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="sessions that survive a restart")
    parser.add_argument("--address", required=True, metavar="ADDR:PORT")
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--sockets", type=int, default=1)
    arguments = parser.parse_args()
    try:
        sockets = [bind(arguments.address) for _ in range(arguments.sockets)]
        grm.enroll(sockets, arguments.generation)
    except (OSError, ValueError) as error:  # NotHooked and TimeoutError are OSErrors
        print(f"tunnel_server: {error}", file=sys.stderr)
        return 1
    prefix = f"{socket.gethostname()} {arguments.generation} {os.getpid()} ".encode()
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ, Tunnels(sock, prefix))
        notify_ready()
        while True:
            for key, _ in selector.select():
                key.data.receive()


if __name__ == "__main__":
    sys.exit(main())
