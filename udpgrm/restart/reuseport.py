# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sharing the address of a bound socket that has no SO_REUSEPORT yet.

SO_REUSEPORT may be set after the bind, but the kernel makes the socket's reuseport group only
when a second one binds. So one is bound for a moment, of the same user, as the kernel requires.
Until its group has a program that names the first socket, some microseconds, it gets a share of
the packets; these packets are counted.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from udpgrm.kernel import sockopt

_RET_K = 0x06


def is_shared(sock: socket.socket) -> bool:
    """Return whether a socket's address may be shared."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0


def share(sock: socket.socket) -> int:
    """Let others bind a bound socket's address, and make its reuseport group.

    Returns how many packets went astray meanwhile. Raises OSError.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    owner = os.stat(f"/proc/self/fd/{sock.fileno()}").st_uid
    own = os.geteuid()
    os.seteuid(owner)  # a socket's user is the user that creates it
    try:
        second = socket.socket(sock.family, socket.SOCK_DGRAM)
    finally:
        os.seteuid(own)
    with second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        device = sockopt.ifindex(sock)
        if device:
            second.setsockopt(socket.SOL_SOCKET, sockopt.SO_BINDTOIFINDEX, device)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        code = ctypes.create_string_buffer(struct.pack("=HBBI", _RET_K, 0, 0, 0))
        first = struct.pack("@HP", 1, ctypes.addressof(code))
        name = sock.getsockname()
        second.bind(name)
        second.setsockopt(socket.SOL_SOCKET, sockopt.SO_ATTACH_REUSEPORT_CBPF, first)
        return _waiting(second)


def _waiting(sock: socket.socket) -> int:
    """Return how many packets a socket has got."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.recv(1)
        except BlockingIOError:
            return count
        count += 1
