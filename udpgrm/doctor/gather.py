# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Facts of a running host; changes nothing on it.

Sockets of other processes are duplicated (pidfd_getfd(2)), which also tells
whether hooks answer: they are those of the cgroup that a socket was made in,
whoever asks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.doctor.facts import Group, Host, Socket
from udpgrm.kernel import cgroups, libbpf, pidfd
from udpgrm.state import address
from udpgrm.state.maps import Maps
from udpgrm.state.view import Viewer

_SO_BINDTOIFINDEX = 62
_SO_NETNS_COOKIE = 71


def host_of(
    directory: Path, maps: Optional[Maps], daemon: Optional[int], hooked: Iterable[str]
) -> Host:
    """The host's facts, from its state; None: there is none."""
    if maps is None:
        return Host(str(directory), has_state=False)
    return Host(str(directory), True, daemon, tuple(hooked), tuple(_groups(maps)))


def _groups(maps: Maps) -> list[Group]:
    groups = []
    for view in Viewer(maps).groups(with_flows=False):
        record = maps.group(view.number)
        groups.append(
            Group(
                number=view.number,
                address=view.address,
                family=record.key.family,
                netns=view.netns,
                ifindex=view.ifindex,
                uid=record.uid,
                has_program=bool(record.program),
                max_apps=record.max_apps,
                working=tuple(view.working),
                alive={item.slot: item.alive for item in view.generations},
            )
        )
    return groups


def sockets_of(
    pids: Iterable[int], maps: Optional[Maps], where: Optional[str], bound: bool
) -> list[Socket]:
    """The UDP sockets of processes that are not connected to a peer, each once.

    `where` limits them to an ADDRESS:PORT, `bound` to those that could be
    steered: bound, with SO_REUSEPORT.
    """
    found: dict[int, Socket] = {}
    for pid in sorted(set(pids) - {os.getpid()}):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            for seen in _sockets_of(pid, maps, where, bound):
                found.setdefault(seen.cookie, seen)
    return sorted(found.values(), key=lambda item: (item.pid, item.fd))


def _sockets_of(
    pid: int, maps: Optional[Maps], where: Optional[str], bound: bool
) -> Iterator[Socket]:
    numbers: dict[int, int] = {}
    for cookie, fd in pidfd.sockets_of(pid):
        with socket.socket(fileno=fd) as sock:
            if _is_meant(sock, where, bound):
                numbers = numbers or _descriptors(pid)
                number = numbers.get(os.fstat(fd).st_ino, -1)
                yield _look_at(sock, maps, pid, number, cookie, _cgroup_of(pid))


def _is_meant(sock: socket.socket, where: Optional[str], bound: bool) -> bool:
    if not pidfd.is_udp_server(sock):
        return False
    if where is not None:
        return address.bound(sock) == where
    if bound:
        return address.bound(sock) is not None and _option(sock, socket.SO_REUSEPORT) != 0
    return True


def _option(sock: socket.socket, option: int, size: int = 4) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, option, size), sys.byteorder)


def _descriptors(pid: int) -> dict[int, int]:
    """Descriptor by inode of the socket."""
    numbers: dict[int, int] = {}
    directory = Path(f"/proc/{pid}/fd")
    for name in sorted(os.listdir(directory), key=int, reverse=True):
        try:
            numbers[(directory / name).stat().st_ino] = int(name)
        except OSError:  # closed meanwhile
            continue
    return numbers


def _cgroup_of(pid: int) -> str:
    """The directory of a process's cgroup; as in cgroups(7) when it is not mounted here."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return str(cgroups.default_root() / path.lstrip("/"))
    return "/"


def _is_hooked(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(socket.IPPROTO_UDP, Option.WORKING_GEN, 4)
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    return True


def _look_at(
    sock: socket.socket, maps: Optional[Maps], pid: int, number: int, cookie: int, cgroup: str
) -> Socket:
    six = sock.family == socket.AF_INET6
    seen = Socket(
        pid=pid,
        fd=number,
        cookie=cookie,
        family=int(sock.family),
        address=address.bound(sock),
        reuseport=_option(sock, socket.SO_REUSEPORT) != 0,
        netns=_option(sock, _SO_NETNS_COOKIE, 8),
        cgroup=cgroup,
        ifindex=_option(sock, _SO_BINDTOIFINDEX),
        v6only=six and sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) != 0,
        hooked=_is_hooked(sock),
    )
    return seen if maps is None else _with_notes(seen, sock, maps)


def _with_notes(seen: Socket, sock: socket.socket, maps: Maps) -> Socket:
    """Add what hooks and daemon have noted in the socket's storage."""
    request = abi.SocketRequest()
    place = abi.SocketPlace()
    if not _storage(maps["socket_request"], sock, request):
        return seen
    _storage(maps["socket_place"], sock, place)
    seen = replace(seen, known=True, uid=request.uid, application=request.app)
    if not request.group:
        return seen
    group = maps.group(request.group - 1)
    if group.state != abi.GroupState.LIVE or group.epoch != request.epoch:
        return replace(seen, forgotten=True)
    seen = replace(seen, group=request.group - 1)
    if request.generation == abi.GENERATION_NONE:
        return seen
    seen = replace(seen, generation=request.generation)
    same = (place.group, place.epoch) == (request.group, request.epoch)
    if not same or place.generation != request.generation or place.slot >= abi.GENERATION_SLOTS:
        return seen
    if place.index == abi.INDEX_NONE:
        return replace(seen, crowded=True)
    return replace(seen, index=place.index)


def _storage(
    storage: int, sock: socket.socket, record: Union[abi.SocketRequest, abi.SocketPlace]
) -> bool:
    """Read a socket's storage into a record; False: it has none."""
    size = ctypes.sizeof(record)
    raw = libbpf.map_lookup(storage, sock.fileno().to_bytes(4, sys.byteorder), size)
    if raw is not None:
        ctypes.memmove(ctypes.addressof(record), raw, size)
    return raw is not None
