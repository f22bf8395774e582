# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Gathering of facts of a running host; changes nothing on it.

Sockets of other processes are duplicated (pidfd_getfd(2)), which also shows
whether hooks answer: they are the hooks of the cgroup that a socket was made
in, for every caller.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional

from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.client import level_of
from udpgrm.dissectors import kinds
from udpgrm.doctor.facts import Group, Host, Socket, Unreachable
from udpgrm.doctor.options import limits_of
from udpgrm.kernel import (
    attached,
    bpffs,
    cgroups,
    descriptors,
    libbpf,
    netns,
    pidfd,
    sockopt,
)
from udpgrm.state import address, records, second_groups
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps
from udpgrm.state.steered import Foreign, foreign
from udpgrm.state.view import Viewer

#: On a busy host execve(2) takes so long at most (seconds): a process in it does not hang.
_SECOND_LOOK_S = 2.0


def host_of(
    directory: Path,
    maps: Optional[Maps],
    daemon: Optional[int],
    hooked: Iterable[str],
    unreachable: Iterable[Unreachable],
) -> Host:
    """Return the host's facts, from its state; None: there is none."""
    if maps is None:
        return Host(
            str(directory),
            has_state=False,
            unreachable=tuple(unreachable),
            unmounted=bpffs.unmounted(directory),
        )
    lacks = descriptors.lacks_right(daemon) if daemon is not None else ""
    groups = tuple(_groups(maps))
    return Host(
        str(directory),
        True,
        daemon,
        tuple(hooked),
        groups,
        lacks,
        tuple(unreachable),
        outside=frozenset().union(
            *(second_groups.outside(maps, netns) for netns in {group.netns for group in groups})
        ),
    )


def _groups(maps: Maps) -> list[Group]:
    groups = []
    programs: dict[int, dict[int, Foreign]] = {}  # by namespace and group
    lookups: dict[int, tuple[str, ...]] = {}
    for view in Viewer(maps).groups(with_flows=False):
        record = maps.group(view.group_id)
        if view.netns not in programs:
            programs[view.netns] = foreign(maps, view.netns)
            lookups[view.netns] = tuple(_lookup_programs(view.netns))
        taken = programs[view.netns].get(view.group_id)
        dissector = maps.dissector(view.group_id)
        groups.append(
            Group(
                group_id=view.group_id,
                address=view.address,
                family=record.key.family,
                netns=view.netns,
                ifindex=view.ifindex,
                uid=record.uid,
                has_program=bool(record.program),
                max_apps=record.max_apps,
                working=tuple(view.working),
                alive={item.slot: item.alive for item in view.generations},
                lookup_programs=() if view.label else lookups[view.netns],  # tubular's
                foreign_program=taken.program if taken is not None else "",
                second=second_groups.find(maps, view),
                has_flows=kinds.has_flow_table(record),
                failing_loads=kinds.of_value(dissector).failing_loads(dissector),
            )
        )
    return groups


def _lookup_programs(namespace: int) -> list[str]:
    """Return the programs of a namespace that choose sockets; none if it cannot be entered."""
    if namespace == netns.own_cookie():
        return attached.of_own_namespace()
    from udpgrm.kernel import inside_netns  # most groups are here

    return inside_netns.run_in(namespace, attached.of_own_namespace) or []


def sockets_of(
    pids: Iterable[int], maps: Optional[Maps], where: Optional[str], bound: bool
) -> tuple[list[Socket], list[Unreachable]]:
    """Return the sockets of processes that serve any peer, each once.

    `where` limits them to an ADDRESS:PORT, `bound` to sockets that could be
    steered: bound, with SO_REUSEPORT. Without `where`, of listeners of TCP only those at a group's
    address. Returns also the processes that could not be read.
    """
    wanted = _Wanted(where, bound, _tcp_addresses(maps))
    programs = functools.cache(_programs_of)  # many sockets are in few cgroups
    found: dict[int, Socket] = {}

    def look(pids: Iterable[int]) -> dict[int, descriptors.Unreachable]:
        unreachable = {}
        for pid in pids:
            try:
                for seen in _sockets_of(pid, maps, wanted, programs):
                    found.setdefault(seen.cookie, seen)
            except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
                continue
            except descriptors.Unreachable as error:
                if descriptors.is_worth_reporting(error):
                    unreachable[pid] = error
        return unreachable

    unreachable = look(sorted(set(pids) - {os.getpid()}))
    if descriptors.have_come_back(_SECOND_LOOK_S):
        unreachable = look(unreachable)
    reasons = dict.fromkeys(
        _unreachable(pid, error, asked=not bound) for pid, error in unreachable.items()
    )
    return sorted(found.values(), key=lambda item: (item.pid, item.fd)), list(reasons)


def _unreachable(pid: int, error: descriptors.Unreachable, asked: bool) -> Unreachable:
    if lacks := descriptors.lacks_right():
        return Unreachable(lacks)
    cgroup = None
    if not asked:
        with contextlib.suppress(OSError):  # ended meanwhile
            cgroup = _cgroup_of(pid)
    return Unreachable(str(error.strerror), cgroup)


class _Wanted(NamedTuple):
    where: Optional[str]
    bound: bool
    tcp_addresses: frozenset[str]


def _tcp_addresses(maps: Optional[Maps]) -> frozenset[str]:
    if maps is None:
        return frozenset()
    keys = [maps.group(group_id).key for group_id in maps.groups_in(abi.GroupState.LIVE)]
    return frozenset(address.of_key(key) for key in keys if key.protocol)


class _Programs(NamedTuple):
    """Programs of others that run for a cgroup: see Socket."""

    options: tuple[str, ...]
    sends4: tuple[str, ...]
    sends6: tuple[str, ...]

    def of_sends(self, family: int) -> tuple[str, ...]:
        """Return those that may change where a UDP socket sends after udpgrm's hooks."""
        return self.sends4 + (self.sends6 if family == socket.AF_INET6 else ())


def _programs_of(cgroup: str) -> _Programs:
    path = Path(cgroup)
    return _Programs(
        tuple(attached.of_others(path, libbpf.CGROUP_SETSOCKOPT)),
        tuple(attached.of_others(path, libbpf.CGROUP_UDP4_SENDMSG, after_ours=True)),
        tuple(attached.of_others(path, libbpf.CGROUP_UDP6_SENDMSG, after_ours=True)),
    )


def _sockets_of(
    pid: int, maps: Optional[Maps], wanted: _Wanted, programs: Callable[[str], _Programs]
) -> Iterator[Socket]:
    for number, cookie, fd in pidfd.numbered_sockets_of(pid):
        with socket.socket(fileno=fd) as sock:
            if not _is_meant(sock, wanted):
                continue
            seen = _look_at(sock, maps, pid, number, cookie)
            is_udp = sock.proto == socket.IPPROTO_UDP
        # the slow part, after the duplicate is closed: an open duplicate would take packets
        cgroup = _cgroup_of(pid)
        others = programs(cgroup)
        sends = others.of_sends(seen.family) if is_udp else ()
        yield replace(seen, cgroup=cgroup, option_programs=others.options, send_programs=sends)


def _is_meant(sock: socket.socket, wanted: _Wanted) -> bool:
    if not pidfd.is_server(sock):
        return False
    if wanted.where is not None:
        return address.read(wanted.where).selects_socket(sock)
    if sock.proto == socket.IPPROTO_TCP:  # most listeners are of no service here
        return address.bound(sock) in wanted.tcp_addresses
    if wanted.bound:
        return address.bound(sock) is not None and _is_shared(sock)
    return True


def _is_shared(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0


def _cgroup_of(pid: int) -> str:
    """Return the directory of a process's cgroup; as in cgroups(7) if it is not mounted here."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return str(cgroups.default_root() / path.lstrip("/"))
    return "/"


def _is_hooked(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(level_of(sock), Option.WORKING_GEN, 4)
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    return True


def _look_at(
    sock: socket.socket, maps: Optional[Maps], pid: int, number: int, cookie: int
) -> Socket:
    six = sock.family == socket.AF_INET6
    seen = Socket(
        pid=pid,
        fd=number,
        cookie=cookie,
        family=int(sock.family),
        address=address.bound(sock),
        reuseport=_is_shared(sock),
        netns=sockopt.netns_cookie(sock),
        cgroup="",
        ifindex=sockopt.ifindex(sock),
        v6only=six and sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) != 0,
        hooked=_is_hooked(sock),
        limits=limits_of(sock, pid),
        locked=sock.getsockopt(socket.SOL_SOCKET, sockopt.SO_LOCK_FILTER) != 0,
    )
    return seen if maps is None else _with_notes(seen, sock, maps)


def _with_notes(seen: Socket, sock: socket.socket, maps: Maps) -> Socket:
    """Add the records of hooks and daemon in the socket's storage."""
    request = records.request_of(maps, sock.fileno())
    if request is None:
        return seen
    record = records.registration_of(maps, sock.fileno()) or abi.Registration()
    seen = replace(seen, known=True, uid=request.uid, application=request.app)
    if not request.group:
        return seen
    group = maps.group(request.group - 1)
    if group.state != abi.GroupState.LIVE or group.epoch != request.epoch:
        return replace(seen, deleted=True)
    seen = replace(seen, group_id=request.group - 1)
    if request.generation == abi.GENERATION_NONE:
        return seen
    seen = replace(seen, generation=request.generation)
    same = (record.group, record.epoch) == (request.group, request.epoch)
    if not same or record.generation != request.generation or record.slot >= abi.GENERATION_SLOTS:
        return seen
    if record.index == abi.INDEX_NONE:
        return replace(seen, full=True)
    with contextlib.suppress(LookupError), GroupEntries(maps, request.group - 1) as entries:
        seen = replace(seen, entered=entries.cookie_at(record.array_entry) == seen.cookie)
    return replace(seen, index=record.index)
