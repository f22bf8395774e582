# SPDX-License-Identifier: Apache-2.0
"""Array entries and generations of one group.

Every socket that the daemon registers gets an array entry in the group's socket array, for
as long as it lives; a generation lists the entries of its sockets by index. The
kernel empties an array entry when its socket closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps, index


class GroupEntries:
    """One group's sockets and slots maps, open until `close`."""

    def __init__(self, maps: Maps, group_id: int) -> None:
        """Open the group's inner maps. Raises LookupError if it has none."""
        self._stack = contextlib.ExitStack()
        self.sockets = self._open(maps, maps.socket_map(group_id), group_id)
        self.slots = self._open(maps, "slots", group_id)

    def _open(self, maps: Maps, outer: str, group_id: int) -> int:
        fd = self._stack.enter_context(maps.inner(outer, group_id))
        if fd is None:
            self._stack.close()
            raise LookupError(f"group {group_id} has no maps")
        return fd

    def close(self) -> None:
        """Close the maps."""
        self._stack.close()

    def __enter__(self) -> GroupEntries:
        """Return itself; the exit closes the maps."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the maps."""
        self.close()

    def cookie_at(self, array_entry: int) -> Optional[int]:
        """Return the SO_COOKIE of the socket in an array entry; None: it is empty."""
        if array_entry >= abi.GROUP_ENTRIES:
            return None
        value = libbpf.map_lookup(self.sockets, index(array_entry), 8)
        return None if value is None else int.from_bytes(value, sys.byteorder)

    def enter(self, array_entry: int, fd: int) -> None:
        """Enter a socket into the array at an entry."""
        libbpf.map_update(self.sockets, index(array_entry), fd.to_bytes(8, sys.byteorder))

    def slot(self, number: int) -> abi.Slot:
        """Return a copy of a slot's record."""
        data = libbpf.map_lookup(self.slots, index(number), ctypes.sizeof(abi.Slot))
        assert data is not None
        return abi.Slot.from_buffer_copy(data)

    def write_slot(self, number: int, slot: abi.Slot) -> None:
        """Replace a slot's record."""
        libbpf.map_update(self.slots, index(number), bytes(slot))

    def used_slots(self) -> Iterator[tuple[int, abi.Slot]]:
        """Yield the slots that have sockets, as they are now; to change one, read it again."""
        size = ctypes.sizeof(abi.Slot)
        # a place more than there are, or a second call would find the end
        for key, value in libbpf.map_items(self.slots, 4, size, abi.GENERATION_SLOTS + 1):
            if any(value[: abi.Slot.live.size]):
                yield int.from_bytes(key, sys.byteorder), abi.Slot.from_buffer_copy(value)

    def first_free_index(self, slot: abi.Slot, start: int) -> Optional[int]:
        """Return the lowest index from `start` on that is free or dead; None: full."""
        position = start + libbpf.map_first_missing(self.sockets, slot.array_entry[start:], 8)
        return position if position < abi.SLOT_SOCKETS else None


def empty_slot() -> abi.Slot:
    """Return the record of a slot without a generation."""
    slot = abi.Slot()
    for position in range(abi.SLOT_SOCKETS):
        slot.array_entry[position] = abi.ENTRY_NONE
    return slot


def set_entry(slot: abi.Slot, position: int, array_entry: int) -> None:
    """Give an index of a slot to an array entry, and list it for new flows."""
    old = slot.array_entry[position]
    live = [item for item in slot.live_entries[: slot.live] if item not in (old, array_entry)]
    live.append(array_entry)
    slot.array_entry[position] = array_entry
    _list_live(slot, live)


def drop_entries(slot: abi.Slot, entries: set[int]) -> None:
    """Remove entries from a slot."""
    for position in range(abi.SLOT_SOCKETS):
        if slot.array_entry[position] in entries:
            slot.array_entry[position] = abi.ENTRY_NONE
    _list_live(slot, [item for item in slot.live_entries[: slot.live] if item not in entries])


def _list_live(slot: abi.Slot, live: list[int]) -> None:
    """Write each live array entry once: the hooks overwrite entries of sockets that close."""
    once = dict.fromkeys(live)
    slot.live = len(once)
    for position, array_entry in enumerate(once):
        slot.live_entries[position] = array_entry


def flows_of_entry(maps: Maps, group: abi.Group, array_entry: int) -> Iterator[tuple[int, bytes]]:
    """Yield (table id, key) of every flow entry that points to an array entry."""
    for table in set(group.table) - {0}:
        with maps.inner("flow_tables", table) as fd:
            if fd is None:
                continue
            for key, value in libbpf.map_items(
                fd, ctypes.sizeof(abi.FlowKey), ctypes.sizeof(abi.Flow)
            ):
                if abi.Flow.from_buffer_copy(value).array_entry == array_entry:
                    yield table, key
