# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets at a service's address that are in no generation: nothing steers to them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from udpgrm.abi import GroupState
from udpgrm.kernel import pidfd
from udpgrm.restart import drops
from udpgrm.state import address, enrolling
from udpgrm.state.maps import Maps

_UNIT = re.compile(r"[^/]+\.(?:service|scope|socket)")


@dataclass(frozen=True)
class Stray:
    """A socket that is in no generation, with a process that has it.

    unit: of systemd; "" when its cgroup is no unit's. cgroup: as in cgroups(7).
    """

    address: str
    socket_cookie: int
    pid: int
    unit: str
    cgroup: str

    def __str__(self) -> str:
        """Return the process and the unit or cgroup that it runs in."""
        return f"pid {self.pid} of {self.unit or self.cgroup}"


def find(maps: Maps, where: str, known: int) -> list[Stray]:
    """Return the sockets at ADDRESS:PORT of this network namespace that are in no generation.

    known: how many living sockets are in some; if there are no others, no process is read.
    """
    wanted = address.read(where)
    inodes = set(drops.read([where])[where])
    if len(inodes) <= known:
        return []
    found: dict[int, Stray] = {}
    for pid in sorted(pidfd.all_pids()):
        numbers = [number for number, inode in sockets_of(pid) if inode in inodes]
        if pid == os.getpid() or not numbers:
            continue
        for _, cookie, fd in pidfd.numbered_sockets_of(pid, numbers):
            with socket.socket(fileno=fd) as sock:
                is_meant = pidfd.is_server(sock) and wanted.selects_socket(sock)
                is_here = str(os.fstat(fd).st_ino) in inodes
                if is_meant and is_here and not _has_group(maps, cookie, sock):
                    cgroup = _cgroup(pid)
                    found.setdefault(cookie, Stray(where, cookie, pid, unit_of(cgroup), cgroup))
    return sorted(found.values(), key=lambda stray: (stray.pid, stray.socket_cookie))


def unit_of(cgroup: str) -> str:
    """Return the systemd unit of a cgroup, or ""."""
    units = _UNIT.findall(cgroup)
    return units[-1] if units else ""


def sockets_of(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the descriptors of a process that are sockets, with their inodes."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(entry.path).partition(":")  # noqa: PTH115
                if kind == "socket":
                    yield int(entry.name), inode.strip("[]")


def _has_group(maps: Maps, cookie: int, sock: socket.socket) -> bool:
    """Return whether its server uses udpgrm's options: then the server chooses its generation."""
    request = enrolling.request_of(maps, cookie, sock)
    if not request.group:
        return False
    group = maps.group(request.group - 1)
    return bool(group.state == GroupState.LIVE and group.epoch == request.epoch)


def _cgroup(pid: int) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            hierarchy, _, path = line.split(":", 2)
            if hierarchy == "0":
                return path
    return "a process that has ended"
