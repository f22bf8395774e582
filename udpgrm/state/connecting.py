# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Connected sockets: they leave their array entries, as they get packets of one peer only."""

from __future__ import annotations

import os
import socket
import sys
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import libbpf, pidfd
from udpgrm.state import connected, entries, holders, records
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps, index

#: A server that connects a socket to the peer it is for has done so by then.
CONNECTS_WITHIN_S = 0.1


def is_connected(fd: int) -> bool:
    """Return whether a socket is connected to a peer."""
    with pidfd.borrowed(fd) as sock:
        try:
            sock.getpeername()
        except OSError:
            return False
    return True


def give_back(maps: Maps, group_entries: GroupEntries, message: abi.Message, fd: int) -> None:
    """Remove a connected socket from its generation's lists and from the array.

    Its record keeps the index that its server was given: an index is never withdrawn.
    """
    registration = records.entered_in(maps, fd, message.group_id, message.epoch)
    if registration is None:
        return
    if registration.slot < abi.GENERATION_SLOTS:
        slot = group_entries.slot(registration.slot)
        entries.drop_entries(slot, {registration.array_entry})
        group_entries.write_slot(registration.slot, slot)
    if group_entries.cookie_at(registration.array_entry) == registration.cookie:
        libbpf.map_delete(group_entries.sockets, index(registration.array_entry))
    libbpf.map_delete(maps["entries"], int(registration.cookie).to_bytes(8, sys.byteorder))
    registration.array_entry = abi.ENTRY_NONE
    records.write_registration(maps, fd, registration)


def undo(maps: Maps, group_entries: GroupEntries, message: abi.Message, fd: int) -> None:
    """Undo what the hooks did to a socket to be connected: it is not, or connect(2) has failed."""
    registration = records.entered_in(maps, fd, message.group_id, message.epoch)
    if (
        registration is not None
        and registration.slot < abi.GENERATION_SLOTS
        and registration.index != abi.INDEX_NONE
    ):
        slot = group_entries.slot(registration.slot)
        entries.set_entry(slot, registration.index, registration.array_entry)
        group_entries.write_slot(registration.slot, slot)
    rejoin(maps, fd)
    take_lent(maps, fd)


def rejoin(maps: Maps, fd: int) -> None:
    """Give a socket the options again that connect(2) has changed."""
    request = records.request_of(maps, fd)
    if request is None or not request.parted:
        return
    _set(fd, socket.SO_REUSEPORT, 1)
    if request.parted == abi.Parted.OF_BOTH:
        _set(fd, socket.SO_REUSEADDR, 0)


def rejoin_all(maps: Maps, pids: Optional[set[int]] = None) -> None:
    """Give all connected sockets their options again, or only the sockets of some processes.

    Without hooks the server's next socket would conflict with them.
    """
    parted: set[int] = set()
    live = (maps.group(group_id) for group_id in maps.groups_in(abi.GroupState.LIVE))
    for namespace in {group.key.netns for group in live if group.parted}:
        for record in connected.records(maps, namespace) or ():
            if record.parted:
                parted.add(record.cookie)
    for pid, fd in holders.duplicates(maps, parted).values():
        if pids is None or pid in pids:
            rejoin(maps, fd)
        os.close(fd)


def take_lent(maps: Maps, fd: int) -> None:
    """Remove SO_REUSEADDR from a socket that the bind hook has set it for.

    With it on every socket of an address, other users could bind there.
    """
    request = records.request_of(maps, fd)
    if request is not None and request.lent:
        _set(fd, socket.SO_REUSEADDR, 0)


def _set(fd: int, option: int, value: int) -> None:
    with pidfd.borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
