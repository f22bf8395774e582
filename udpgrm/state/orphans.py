# SPDX-License-Identifier: Apache-2.0
"""Orphaned groups: their daemon has removed its pins, but their sockets are still steered.

A steering program holds the maps of its group for as long as sockets are
attached to it. Programs are called by their group's id, and the map of groups
by the pin directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import libbpf, loaded
from udpgrm.state import layout
from udpgrm.state.layout import Config
from udpgrm.state.maps import Maps, index
from udpgrm.state.view import GroupView, Viewer

_ROLES = {
    "udpgrm_dissect": "dissectors",
    "udpgrm_slots": "slots",
    "udpgrm_socks": "sockets",
    "udpgrm_sockmap": "sockets",
    "udpgrm_counters": "counters",
    "udpgrm_flowtbls": "flow_tables",
}


class _OrphanMaps(Maps):
    """The maps of one group, as far as its program holds them."""

    @property
    def config(self) -> Config:
        """Return what is known without the configuration record."""
        return Config(layout=abi.LAYOUT, groups=0, hz=self.clock.rate())

    def group(self, group_id: int) -> abi.Group:
        """Return a copy of the group's record."""
        data = libbpf.map_lookup(self["groups"], index(group_id), ctypes.sizeof(abi.Group))
        assert data is not None
        return abi.Group.from_buffer_copy(data)

    def dissector(self, group_id: int) -> abi.Dissector:
        """Return the group's dissector; of an older version's, what the group's record has."""
        if "dissectors" in self.fds:
            return super().dissector(group_id)
        group = self.group(group_id)
        return abi.Dissector(type=group.type, max_apps=group.max_apps)

    def socket_map(self, group_id: int) -> str:
        """Return the name of the group's sockets, of either kind of map."""
        return "sockets"

    @contextlib.contextmanager
    def inner(self, outer: str, number: int) -> Iterator[Optional[int]]:
        """Yield an fd of a map of the group, or of a flow table."""
        fd = self.fds.get(outer)
        if outer != "flow_tables" or fd is None:
            yield fd
            return
        identity = libbpf.map_lookup(fd, index(number), 4)
        table = None
        if identity is not None:
            with contextlib.suppress(FileNotFoundError):
                table = libbpf.map_by_id(int.from_bytes(identity, sys.byteorder))
        try:
            yield table
        finally:
            if table is not None:
                os.close(table)


def groups(directory: Path, current: Maps, only: Optional[str]) -> list[GroupView]:
    """Return the groups of earlier daemons of this pin directory that have living sockets."""
    name = layout.groups_name(directory)
    ours = libbpf.map_id(current["groups"])
    found = []
    for program, ids in loaded.programs_of_type(libbpf.PROG_SK_REUSEPORT):
        group_id = program[len(layout.STEERING_PREFIX) :]
        if program.startswith(layout.STEERING_PREFIX) and group_id.isdecimal() and ours not in ids:
            maps = _OrphanMaps(_open(ids, name))
            try:
                if "groups" in maps.fds:
                    view = Viewer(maps).group(int(group_id), with_flows=True)
                    alive = view is not None and any(item.alive for item in view.generations)
                    if view is not None and alive and only in (None, view.address):
                        found.append(view)
            finally:
                maps.close()
    return found


def _open(ids: list[int], groups_map: str) -> dict[str, int]:
    """Open a program's maps; return their descriptors by role."""
    fds: dict[str, int] = {}
    for identity in ids:
        with contextlib.suppress(FileNotFoundError):
            fd = libbpf.map_by_id(identity)
            info = libbpf.map_info(fd)
            called = info.name.decode(errors="replace")
            role = _ROLES.get(called)
            if called == groups_map and info.value_size == ctypes.sizeof(abi.Group):
                role = "groups"
            if role is None or role in fds:
                os.close(fd)
            else:
                fds[role] = fd
    return fds
