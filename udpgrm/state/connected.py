# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Connected sockets: flows of their generation, although their packets do not show that.

Those of UDP that a server has connected to a peer, and connections of TCP. Iterators of the kernel
read the sockets of a network namespace as they are at this moment.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Optional, TypeVar

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.kernel import btf, iterator, libbpf, netns
from udpgrm.state.maps import Maps

_COUNT_BYTES = 8
_Read = TypeVar("_Read")


class Member(NamedTuple):
    """A generation; GENERATION_NONE: of the sockets whose generation is unknown."""

    group_id: int
    epoch: int
    application: int
    generation: int

    def is_of(self, group_id: int, epoch: int) -> bool:
        """Return whether it is a generation of a group; its id may be a later group's by now."""
        return (self.group_id, self.epoch) == (group_id, epoch)


Counts = dict[Member, int]


def _member(of: abi.Membership) -> Member:
    return Member(of.group - 1, of.epoch, of.app, of.generation)


def count(maps: Maps, namespace: int) -> Optional[Counts]:
    """Count the connected sockets of each generation, in a network namespace by its cookie.

    None: they cannot be counted, as there is no iterator, or no way into the namespace.
    """
    found = _read(maps, namespace, "connected", "accepted", _count_here)
    if found is None:
        return None
    return {member: count for counts in found for member, count in counts.items()}


def _read(
    maps: Maps, namespace: int, udp: str, tcp: str, read: Callable[[Maps, str], _Read]
) -> Optional[list[_Read]]:
    """Read an iterator over sockets of UDP, and one over TCP's if a group is of TCP.

    None: there is no iterator, or no way into the namespace.
    """
    if udp not in maps.iterators:  # the maps of an earlier daemon cannot even be searched
        return None
    live = (maps.group(group_id) for group_id in maps.groups_in(GroupState.LIVE))
    names = [udp, tcp] if any(group.key.protocol for group in live) else [udp]
    return with_iterators(maps, namespace, names, read)


def with_iterators(
    maps: Maps, namespace: int, names: list[str], read: Callable[[Maps, str], _Read]
) -> Optional[list[_Read]]:
    """Read iterators in a network namespace, by its cookie.

    None: there is no iterator, or no way into the namespace.
    """
    if not maps.iterators.keys() >= set(names):
        return None
    if namespace == netns.own_cookie():
        return [read(maps, name) for name in names]
    from udpgrm.kernel import inside_netns  # most groups are here

    return inside_netns.run_in(namespace, lambda: [read(maps, name) for name in names])


def _count_here(maps: Maps, name: str) -> Counts:
    session = int.from_bytes(iterator.read(maps.iterators[name]), sys.byteorder)
    counts: Counts = {}
    table, size = maps["connected"], ctypes.sizeof(abi.ConnectedKey)
    for raw, value in list(libbpf.map_items(table, size, _COUNT_BYTES)):
        key = abi.ConnectedKey.from_buffer_copy(raw)
        if key.session == session:
            counts[_member(key.of)] = int.from_bytes(value, sys.byteorder)
            libbpf.map_delete(table, raw)
    return counts


@functools.lru_cache(maxsize=1)  # parses the kernel's types; asked for each connected socket
def connect_parts() -> bool:
    """Return whether connect(2) removes a socket of any address from its reuseport group.

    It does since Linux 6.13, with the kernel's table of connected sockets.
    """
    with btf.KernelTypes() as types:
        return types.has_member("udp_sock", "udp_lrpa_node")


def has_any(maps: Maps, group_id: int, group: abi.Group) -> bool:
    """Return whether a group has connected sockets of a known generation."""
    counts = count(maps, group.key.netns) or {}
    return any(
        member.is_of(group_id, group.epoch) and member.generation != abi.GENERATION_NONE
        for member in counts
    )


class Record(NamedTuple):
    """A socket of a generation.

    entered: the group's array has it. parted: it lacks SO_REUSEPORT, as connect(2) removed
    that; shares: it has it. lent: bind(2) has given it SO_REUSEADDR. kernel_group names the
    kernel's reuseport group, 0: none; program: the id of its program, 0: none, PROGRAM_CLASSIC:
    one of classic BPF. peer: of a connected socket of UDP, as the key of a flow. pid, descriptor
    and bound_at (jiffies, 32 bits) are of the last bind(2) or connect(2) that the daemon is to
    check: hints.
    """

    cookie: int
    member: Member
    connected: bool
    adopted: bool
    entered: bool
    parted: bool
    shares: bool
    lent: bool
    kernel_group: int
    pid: int
    descriptor: int
    bound_at: int
    program: int
    peer: bytes


def records(maps: Maps, namespace: int) -> Optional[list[Record]]:
    """Return a record of each socket of a generation, in a network namespace; None as above."""
    found = _read(maps, namespace, "listed", "listening", _records_here)
    return None if found is None else [record for records in found for record in records]


def _records_here(maps: Maps, name: str) -> list[Record]:
    return list(_records_of(iterator.records(maps.iterators[name], abi.SocketRecord)))


def _records_of(items: Iterable[abi.SocketRecord]) -> Iterator[Record]:
    seen = set()
    for item in items:
        if item.cookie in seen:
            continue
        seen.add(item.cookie)
        yield Record(
            cookie=item.cookie,
            member=_member(item.of),
            connected=bool(item.connected),
            adopted=bool(item.adopted),
            entered=bool(item.entered),
            parted=bool(item.parted),
            shares=bool(item.shares),
            lent=bool(item.lent),
            kernel_group=item.kernel_group,
            pid=item.pid,
            descriptor=item.fd,
            bound_at=item.bound_at,
            program=item.program,
            peer=bytes(item.peer),
        )
