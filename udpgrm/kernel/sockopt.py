# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Socket options that Python's socket module lacks: the one home of their numbers.

Numbers of asm-generic/socket.h, linux/in.h, linux/in6.h and linux/udp.h, as on x86_64 and arm64.
"""

from __future__ import annotations

import socket
import sys

# at level SOL_SOCKET
SO_RCVBUFFORCE = 33
SO_LOCK_FILTER = 44
SO_ATTACH_REUSEPORT_CBPF = 51
SO_ATTACH_REUSEPORT_EBPF = 52
SO_COOKIE = 57
SO_BINDTOIFINDEX = 62
SO_DETACH_REUSEPORT_BPF = 68
SO_NETNS_COOKIE = 71
# at level IPPROTO_IP
IP_RECVERR = 11
IP_FREEBIND = 15
IP_TRANSPARENT = 19
MCAST_MSFILTER = 48  # at level IPPROTO_IPV6, too
# at level IPPROTO_IPV6
IPV6_RECVERR = 25
IPV6_TRANSPARENT = 75
IPV6_FREEBIND = 78
# at level IPPROTO_UDP
UDP_ENCAP = 100
UDP_GRO = 104


def _number(sock: socket.socket, option: int, size: int) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, option, size), sys.byteorder)


def cookie(sock: socket.socket) -> int:
    """Return a socket's SO_COOKIE."""
    return _number(sock, SO_COOKIE, 8)


def netns_cookie(sock: socket.socket) -> int:
    """Return the cookie of a socket's network namespace."""
    return _number(sock, SO_NETNS_COOKIE, 8)


def ifindex(sock: socket.socket) -> int:
    """Return the index of the device that a socket is bound to; 0: to none."""
    return _number(sock, SO_BINDTOIFINDEX, 4)
