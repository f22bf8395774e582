# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The records on a socket: BPF_MAP_TYPE_SK_STORAGE maps, whose key is a descriptor of it.

The hooks write its request, and the daemon its registration record, and which generation its
connections are of. Every function raises OSError.
"""

from __future__ import annotations

import ctypes
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps, index


def request_of(maps: Maps, fd: int) -> Optional[abi.SocketRequest]:
    """Return the hooks' record of a socket; None: it was bound without them."""
    size = ctypes.sizeof(abi.SocketRequest)
    data = libbpf.map_lookup(maps["socket_request"], index(fd), size)
    return None if data is None else abi.SocketRequest.from_buffer_copy(data)


def write_request(maps: Maps, fd: int, request: abi.SocketRequest, flags: int = libbpf.ANY) -> None:
    """Replace the hooks' record of a socket."""
    libbpf.map_update(maps["socket_request"], index(fd), bytes(request), flags)


def registration_of(maps: Maps, fd: int) -> Optional[abi.Registration]:
    """Return the registration record of a socket; None: it never had one."""
    size = ctypes.sizeof(abi.Registration)
    data = libbpf.map_lookup(maps["registrations"], index(fd), size)
    return None if data is None else abi.Registration.from_buffer_copy(data)


def entered_in(maps: Maps, fd: int, group_id: int, epoch: int) -> Optional[abi.Registration]:
    """Return a socket's registration record if it has an array entry in this group."""
    record = registration_of(maps, fd)
    if record is None or (record.group, record.epoch) != (group_id + 1, epoch):
        return None
    return record if record.array_entry != abi.ENTRY_NONE else None


def write_registration(maps: Maps, fd: int, record: abi.Registration) -> None:
    """Replace the registration record of a socket."""
    libbpf.map_update(maps["registrations"], index(fd), bytes(record))


def mark_connections(maps: Maps, fd: int, record: abi.Registration, application: int) -> None:
    """Let the connections that a listener accepts from now on be of its generation."""
    member = abi.Membership(
        group=record.group, epoch=record.epoch, generation=record.generation, app=application
    )
    write_accepted(maps, fd, member)


def write_accepted(maps: Maps, fd: int, member: abi.Membership) -> None:
    """Note the generation of a listener's connections, or of one connection."""
    libbpf.map_update(maps["accepted"], index(fd), bytes(member))
