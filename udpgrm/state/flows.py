# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Entries of flow tables that are deleted before they expire."""

from __future__ import annotations

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
