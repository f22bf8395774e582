# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Limits that the sockets which serve meet: named before a restart begins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping

from udpgrm.doctor import limits
from udpgrm.doctor.options import limits_of
from udpgrm.restart import strays

#: Others of doctor are no matter of restarts, or not known to be met.
_LIMITS = ("multicast", "transparent", "tunnel")


def of_sockets(sockets: Mapping[str, socket.socket]) -> Iterator[str]:
    """Yield a note for each limit that a socket meets, by its address."""
    for where, sock in sockets.items():
        if sock.type == socket.SOCK_DGRAM:
            found = limits_of(sock, os.getpid())
            yield from (f"{where}: {limits.explain(name)}" for name in _LIMITS if name in found)


def of_processes(pids: Iterable[int]) -> Iterator[str]:
    """Yield a note for each process that has a packet socket, as servers of DHCP have."""
    with open("/proc/net/packet", encoding="utf-8") as table:
        inodes = {line.split()[-1] for line in table.readlines()[1:]}
    for pid in pids if inodes else ():
        if any(inode in inodes for _, inode in strays.sockets_of(pid)):
            yield (
                f"pid {pid} has a packet socket: what it reads there reaches each instance, "
                "promoted or not; let one instance alone have it (docs/limits.md)"
            )
