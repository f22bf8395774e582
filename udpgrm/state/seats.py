# SPDX-License-Identifier: Apache-2.0
"""Seats and generations of one group: which socket sits where.

Every socket the daemon hears of gets a seat in the group's socket array, for
as long as it lives; a generation lists the seats of its sockets by index. The
kernel empties a seat when its socket closes.
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


class GroupSeats:
    """One group's sockets and slots maps, open until `close`."""

    def __init__(self, maps: Maps, number: int) -> None:
        """Open the group's inner maps. Raises LookupError when it has none."""
        self._stack = contextlib.ExitStack()
        self.sockets = self._open(maps, maps.socket_map(number), number)
        self.slots = self._open(maps, "slots", number)

    def _open(self, maps: Maps, outer: str, number: int) -> int:
        fd = self._stack.enter_context(maps.inner(outer, number))
        if fd is None:
            self._stack.close()
            raise LookupError(f"group {number} has no maps")
        return fd

    def close(self) -> None:
        """Close the maps."""
        self._stack.close()

    def __enter__(self) -> GroupSeats:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the maps."""
        self.close()

    def cookie_at(self, seat: int) -> Optional[int]:
        """SO_COOKIE of the socket in a seat; None: it is empty."""
        if seat >= abi.GROUP_SEATS:
            return None
        value = libbpf.map_lookup(self.sockets, index(seat), 8)
        return None if value is None else int.from_bytes(value, sys.byteorder)

    def sit(self, seat: int, fd: int) -> None:
        """Put a socket into a seat."""
        libbpf.map_update(self.sockets, index(seat), fd.to_bytes(8, sys.byteorder))

    def slot(self, number: int) -> abi.Slot:
        """A copy of a slot's record."""
        data = libbpf.map_lookup(self.slots, index(number), ctypes.sizeof(abi.Slot))
        assert data is not None
        return abi.Slot.from_buffer_copy(data)

    def write_slot(self, number: int, slot: abi.Slot) -> None:
        """Replace a slot's record."""
        libbpf.map_update(self.slots, index(number), bytes(slot))

    def used_slots(self) -> Iterator[tuple[int, abi.Slot]]:
        """Slots that have or had sockets."""
        for number in range(abi.GENERATION_SLOTS):
            slot = self.slot(number)
            if slot.live:
                yield number, slot

    def first_free_index(self, slot: abi.Slot, start: int) -> Optional[int]:
        """The lowest index from `start` on that is free or dead; None: full."""
        position = start + libbpf.map_first_missing(self.sockets, slot.seat[start:], 8)
        return position if position < abi.SLOT_SOCKETS else None


def empty_slot() -> abi.Slot:
    """The record of a slot that has no generation."""
    slot = abi.Slot()
    for position in range(abi.SLOT_SOCKETS):
        slot.seat[position] = abi.SEAT_NONE
    return slot


def set_seat(slot: abi.Slot, position: int, seat: int) -> None:
    """Give an index of a slot to a seat, and list it for new flows."""
    old = slot.seat[position]
    live = [item for item in slot.live_seat[: slot.live] if item not in (old, seat)]
    live.append(seat)
    slot.seat[position] = seat
    _list_live(slot, live)


def drop_seats(slot: abi.Slot, seats: set[int]) -> None:
    """Take seats out of a slot."""
    for position in range(abi.SLOT_SOCKETS):
        if slot.seat[position] in seats:
            slot.seat[position] = abi.SEAT_NONE
    _list_live(slot, [item for item in slot.live_seat[: slot.live] if item not in seats])


def _list_live(slot: abi.Slot, live: list[int]) -> None:
    """Each seat once: the hooks write others over those of sockets that close."""
    once = dict.fromkeys(live)
    slot.live = len(once)
    for position, seat in enumerate(once):
        slot.live_seat[position] = seat


def flows_of_seat(maps: Maps, group: abi.Group, seat: int) -> Iterator[tuple[int, bytes]]:
    """(table id, key) of every flow entry that points to a seat."""
    for table in set(group.table) - {0}:
        with maps.inner("flow_tables", table) as fd:
            if fd is None:
                continue
            for key, value in libbpf.map_items(
                fd, ctypes.sizeof(abi.FlowKey), ctypes.sizeof(abi.Flow)
            ):
                if abi.Flow.from_buffer_copy(value).seat == seat:
                    yield table, key
