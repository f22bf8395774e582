# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Options and memberships of a socket that meet a limit of the kernel (docs/limits.md)."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from udpgrm.kernel import sockopt

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
#: struct group_filter without sources: interface, group, mode, number of sources.
_GROUP_FILTER = struct.Struct("=I4x128sII")
_SOCKADDR_IN = 8  # as much of it as counts
_libc = ctypes.CDLL(None)


def limits_of(sock: socket.socket, pid: int) -> frozenset[str]:
    """Return which of gro, errors, transparent, broadcast, tunnel and multicast a socket has.

    `pid` is a process of the socket's network namespace.
    """
    found = {
        name
        for name, switches in _SWITCHES.items()
        if any(_is_on(sock, level, option) for level, option in switches)
    }
    if any(_is_member(sock, *membership) for membership in _memberships(pid, sock.family)):
        found.add("multicast")
    return frozenset(found)


def _is_on(sock: socket.socket, level: int, option: int) -> bool:
    with contextlib.suppress(OSError):  # of IPv6, on a socket of IPv4
        return sock.getsockopt(level, option) != 0
    return False


def _memberships(pid: int, family: int) -> Iterator[tuple[int, bytes]]:
    """Yield (device, sockaddr) of the multicast groups that sockets of a namespace are in."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path(f"/proc/{pid}/net/igmp").read_text().splitlines()[1:]
        device = 0
        for line in lines:
            words = line.split()
            if not line.startswith("\t"):
                device = int(words[0])
            else:
                group = int(words[0], 16).to_bytes(4, sys.byteorder)
                yield device, struct.pack("=HH4s", socket.AF_INET, 0, group)
    if family != socket.AF_INET6:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/net/igmp6").read_text().splitlines():
            words = line.split()
            group = bytes.fromhex(words[2])
            yield int(words[0]), struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, group, 0)


def _is_member(sock: socket.socket, device: int, group: bytes) -> bool:
    """Return whether a socket is a member, by asking the kernel for the membership's sources."""
    level = socket.IPPROTO_IP if len(group) == _SOCKADDR_IN else socket.IPPROTO_IPV6
    value = ctypes.create_string_buffer(_GROUP_FILTER.pack(device, group, 0, 0))
    size = ctypes.c_uint32(_GROUP_FILTER.size)
    option = sockopt.MCAST_MSFILTER
    return not _libc.getsockopt(sock.fileno(), level, option, value, ctypes.byref(size))
