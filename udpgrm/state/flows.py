# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Single entries of flow tables."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps


def delete(maps: Maps, group: abi.Group, entries: Iterable[tuple[int, bytes]]) -> None:
    """Delete (table id, key) of a group's flows."""
    group.lines_since = maps.clock.now()  # lines have these flows, too
    for table, key in entries:
        with maps.inner("flow_tables", table) as fd:
            if fd is not None:
                libbpf.map_delete(fd, key)


def has(maps: Maps, group: abi.Group, key: bytes) -> bool:
    """Return whether a table of a group has an entry of a flow, fresh or not."""
    for table in set(group.table) - {0}:
        with maps.inner("flow_tables", table) as fd:
            if fd is not None and libbpf.map_lookup(fd, key, ctypes.sizeof(abi.Flow)) is not None:
                return True
    return False
