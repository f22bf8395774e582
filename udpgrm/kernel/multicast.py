# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Memberships of a socket in multicast groups."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from udpgrm.kernel import sockopt

#: struct group_filter without sources: interface, group, mode, number of sources.
_GROUP_FILTER = struct.Struct("=I4x128sII")
_SOCKADDR_IN = 8  # the used part of it
_libc = ctypes.CDLL(None)


def is_member(sock: socket.socket, pid: int) -> bool:
    """Return whether a socket is in a group; `pid` is a process of its network namespace."""
    return any(_has(sock, *membership) for membership in _memberships(pid, sock.family))


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


def _has(sock: socket.socket, device: int, group: bytes) -> bool:
    """Return whether a socket is a member, by asking the kernel for the membership's sources."""
    level = socket.IPPROTO_IP if len(group) == _SOCKADDR_IN else socket.IPPROTO_IPV6
    value = ctypes.create_string_buffer(_GROUP_FILTER.pack(device, group, 0, 0))
    size = ctypes.c_uint32(_GROUP_FILTER.size)
    option = sockopt.MCAST_MSFILTER
    return not _libc.getsockopt(sock.fileno(), level, option, value, ctypes.byref(size))
