# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Second reuseport groups: sockets of a group that the kernel has, or would put, in another one.

Or in none: connect(2) to AF_UNSPEC and SO_BINDTODEVICE take a socket out of its group for good.
From Linux 6.13 on, connect(2) takes a socket of a particular address out of its reuseport group.
The hooks see to it that the next socket to bind passes over it; where they have not been, it makes
another group with it, which gets all new flows, or none.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Optional

from udpgrm import abi
from udpgrm.state import connected
from udpgrm.state.maps import Maps
from udpgrm.state.view import GroupView

CONNECTS_LISTENING = (
    "until the daemon has entered a new one, the kernel gives new flows to any instance, promoted "
    "or not"
)


@dataclass(frozen=True)
class SecondGroup:
    """A second group: what is wrong, why, what to do. exists: now, not only at the next bind."""

    exists: bool
    what: str
    why: str
    do: str


def find(maps: Maps, view: GroupView) -> Optional[SecondGroup]:
    """Return the second group of a group's sockets; None: there is none."""
    records = [
        record
        for record in connected.records(maps, view.netns) or ()
        if record.member.group_id == view.group_id
    ]
    groups = {record.kernel_group for record in records if record.entered} - {0}
    if len(groups) > 1:
        return SecondGroup(
            exists=True,
            what=f"in {len(groups)} reuseport groups of the kernel",
            why="new flows go to one of them whatever is promoted: some were bound while others "
            "at the address were connected without hooks, or differ in IPV6_V6ONLY",
            do="stop all instances but the one that serves, then restart that one",
        )
    outside = sum(map(_is_outside, records))
    if outside and not view.tcp:
        return SecondGroup(
            exists=True,
            what=f"in no reuseport group of the kernel ({outside} of them)",
            why="they get packets whatever is promoted: connect(2), AF_UNSPEC included, and "
            "SO_BINDTODEVICE after bind(2) take a socket out of its group for good",
            do="let the server leave the sockets that serve all peers as they were bound, and "
            "restart it",
        )
    if not view.tcp and any(_connects_listening(records, member) for member in _members(records)):
        return SecondGroup(
            exists=True,
            what="replaced, as their server connects those that serve all peers",
            why=CONNECTS_LISTENING,
            do="let the server connect another socket to each peer",
        )
    unseen = _unseen(view, records)
    if not unseen:
        return None
    return SecondGroup(
        exists=False,
        what=f"beside {unseen} sockets that were connected without hooks",
        why="sockets of a new instance would be a second reuseport group to the kernel, which "
        "gets all new flows at once",
        do=f"let them end (ss -u state connected sport = :{view.port}), or restart their "
        "server in a hooked cgroup",
    )


def outside(maps: Maps, namespace: int) -> frozenset[int]:
    """Return the SO_COOKIEs of sockets of generations that serve all peers, and no group has."""
    return frozenset(
        record.cookie
        for record in connected.records(maps, namespace) or ()
        if _is_outside(record) and not maps.group(record.member.group_id).key.protocol
    )


def _members(records: list[connected.Record]) -> set[connected.Member]:
    return {record.member for record in records if record.adopted}


def _connects_listening(records: list[connected.Record], member: connected.Member) -> bool:
    """Return whether all sockets that serve all peers came after one that is connected.

    Of a server that makes a socket for each peer the connected ones are the later ones. Those
    that were bound before the hooks came have no time.
    """
    mine = [record for record in records if record.member == member]
    serving = [record.bound_at for record in mine if not record.connected]
    peers = [record.bound_at for record in mine if record.connected and record.bound_at]
    return bool(peers and serving and all(serving)) and all(
        any(0 < (served - peer) % 2**32 < 2**31 for peer in peers) for served in serving
    )


def _is_outside(record: connected.Record) -> bool:
    """Return whether a socket of a generation serves all peers, but no group has it."""
    return (
        not record.connected
        and record.shares
        and not record.kernel_group
        and record.member.generation != abi.GENERATION_NONE
    )


def _unseen(view: GroupView, records: list[connected.Record]) -> int:
    """Return the number of connected sockets that the next bind would make a group with."""
    if view.tcp or ipaddress.ip_address(view.ip).is_unspecified:
        return 0
    count = (view.connected_unknown or 0) + sum(
        record.connected and record.shares for record in records
    )
    return count if count and connected.connect_parts() else 0
