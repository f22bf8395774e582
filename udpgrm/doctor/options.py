# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Options and memberships of a socket that meet a limit of the kernel (docs/limits.md)."""

from __future__ import annotations

import contextlib
import socket

from udpgrm.kernel import multicast, sockopt

#: Options that are on or off, as (level, option).
_SWITCHES = {
    "gro": ((socket.IPPROTO_UDP, sockopt.UDP_GRO),),
    "errors": (
        (socket.IPPROTO_IP, sockopt.IP_RECVERR),
        (socket.IPPROTO_IPV6, sockopt.IPV6_RECVERR),
    ),
    "transparent": (
        (socket.IPPROTO_IP, sockopt.IP_TRANSPARENT),
        (socket.IPPROTO_IPV6, sockopt.IPV6_TRANSPARENT),
    ),
    "broadcast": ((socket.SOL_SOCKET, socket.SO_BROADCAST),),
    "tunnel": ((socket.IPPROTO_UDP, sockopt.UDP_ENCAP),),
}


def limits_of(sock: socket.socket, pid: int) -> frozenset[str]:
    """Return which of gro, errors, transparent, broadcast, tunnel and multicast a socket has.

    `pid` is a process of the socket's network namespace.
    """
    found = {
        name
        for name, switches in _SWITCHES.items()
        if any(_is_on(sock, level, option) for level, option in switches)
    }
    if multicast.is_member(sock, pid):
        found.add("multicast")
    return frozenset(found)


def _is_on(sock: socket.socket, level: int, option: int) -> bool:
    with contextlib.suppress(OSError):  # an IPv6 option on an IPv4 socket
        return sock.getsockopt(level, option) != 0
    return False
