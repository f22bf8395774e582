# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Registration of a socket: its array entry, its generation and its index there."""

from __future__ import annotations

import ctypes
import sys
from typing import Optional

from udpgrm import abi, log
from udpgrm.abi import MessageFlag
from udpgrm.daemon import fields
from udpgrm.daemon.tubular import Tubular
from udpgrm.dissectors import kinds
from udpgrm.journald import Priority
from udpgrm.kernel import libbpf
from udpgrm.loader.pool import Pool
from udpgrm.state import address, counters, entries, flows, records
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps


class Registrar:
    """Enters sockets into the arrays of their groups and the lists of their generations."""

    def __init__(self, maps: Maps, pool: Pool, tubular: Optional[Tubular]) -> None:
        """Use these maps; tubular: gets the sockets of labelled groups as well."""
        self._maps = maps
        self._pool = pool
        self._tubular = tubular
        #: (group id, slot) -> first index not known to be taken, within a round
        self._taken_until: dict[tuple[int, int], int] = {}

    def begin_round(self) -> None:
        """Begin a round of messages: sockets may have closed since the last one."""
        self._taken_until.clear()

    def entries(self, group_id: int) -> GroupEntries:
        """Open a group's entries, also of a group that a hook took without maps.

        Raises OSError.
        """
        self._pool.ensure_maps(group_id)
        return GroupEntries(self._maps, group_id)

    def register(
        self, group: abi.Group, group_entries: GroupEntries, message: abi.Message, fd: int
    ) -> None:
        """Enter a socket (fd), in the generation that it has asked for, if it has.

        Raises OSError, and LookupError when an array or a quota is full.
        """
        record = self._record(message.group_id, group, group_entries, message.cookie, fd)
        if message.flags & MessageFlag.REGISTER:
            self._join_generation(group, group_entries, message, record, fd)
        records.write_registration(self._maps, fd, record)
        if group.key.protocol:
            records.mark_connections(self._maps, fd, record, message.app)

    def _record(
        self, group_id: int, group: abi.Group, group_entries: GroupEntries, cookie: int, fd: int
    ) -> abi.Registration:
        """Return the socket's registration record, or a new one outside any generation."""
        entered = records.entered_in(self._maps, fd, group_id, group.epoch)
        if entered is not None:
            return entered
        record = abi.Registration(
            cookie=cookie,
            group=group_id + 1,
            epoch=group.epoch,
            generation=abi.GENERATION_NONE,
            slot=abi.INDEX_NONE,
            index=abi.INDEX_NONE,
        )
        key = cookie.to_bytes(8, sys.byteorder)
        data = libbpf.map_lookup(self._maps["entries"], key, ctypes.sizeof(abi.EntryRef))
        if data is not None:
            # a daemon was killed after it had entered the socket and before it wrote the record
            ref = abi.EntryRef.from_buffer_copy(data)
            if ref.group_id == group_id:
                record.array_entry = ref.array_entry
                if group_entries.cookie_at(ref.array_entry) != cookie:
                    group_entries.enter(ref.array_entry, fd)
                return record
        self._pool.take_entry(group)
        record.array_entry = self._free_entry(group, group_entries)
        ref = abi.EntryRef(array_entry=record.array_entry, group_id=group_id)
        libbpf.map_update(self._maps["entries"], key, bytes(ref))
        group_entries.enter(record.array_entry, fd)
        return record

    def _free_entry(self, group: abi.Group, group_entries: GroupEntries) -> int:
        """Return the next free entry of a group's array, to which nothing refers any longer."""
        for _ in range(abi.GROUP_ENTRIES):
            turn: int = group.next_entry
            group.next_entry = turn + 1
            array_entry = turn % abi.GROUP_ENTRIES
            if group_entries.cookie_at(array_entry) is not None:
                continue
            if turn >= abi.GROUP_ENTRIES:
                self._remove_references(group, group_entries, array_entry)
            return array_entry
        raise LookupError(f"all {abi.GROUP_ENTRIES} entries of the group are taken")

    def _remove_references(
        self, group: abi.Group, group_entries: GroupEntries, array_entry: int
    ) -> None:
        for slot_id, slot in group_entries.used_slots():
            if array_entry in slot.array_entry[:]:
                slot = group_entries.slot(slot_id)
                entries.drop_entries(slot, {array_entry})
                group_entries.write_slot(slot_id, slot)
        found = list(entries.flows_of_entry(self._maps, group, array_entry))
        flows.delete(self._maps, group, found)

    def _join_generation(
        self,
        group: abi.Group,
        group_entries: GroupEntries,
        message: abi.Message,
        record: abi.Registration,
        fd: int,
    ) -> None:
        group_id, where = message.group_id, address.of_key(group.key)
        generation, array_entry = self._generation_asked_for(message, fd), record.array_entry
        named = {**fields.of_message(group, message), "generation": generation}
        log.event(
            f"registering socket {where} app {message.app} gen {generation} "
            f"so_cookie {message.cookie:#x}",
            named,
        )
        if record.generation == generation and record.index != abi.INDEX_NONE:
            log.event("registering socket again is legal but weird", named)
            return
        slot_id = abi.slot_of(group.max_apps, message.app, generation)
        has_table = kinds.has_flow_table(group)
        if has_table:  # takes memory: before anything of the socket has changed
            self._pool.ensure_table(group_id, group, slot_id)
        slot = group_entries.slot(slot_id)
        if record.slot == slot_id and record.index != abi.INDEX_NONE:
            entries.drop_entries(slot, {array_entry})
            self._taken_until.pop((group_id, slot_id), None)
        index = self._free_index(group_id, slot_id, slot, array_entry, group_entries)
        if index is None:
            log.event("too many sockets in the gen!", named, priority=Priority.WARNING)
            if record.index == abi.INDEX_NONE:  # a registered socket stays where it is
                record.generation, record.slot = generation, slot_id
            return
        if record.slot < abi.GENERATION_SLOTS and record.slot != slot_id:
            self._leave_generation(group_id, record, group_entries)
        record.generation, record.slot = generation, slot_id
        if has_table:
            group.table_mask |= 1 << slot_id
        if not slot.live or slot.generation != generation:
            slot.generation, slot.app = generation, message.app
            if not slot.live:
                packets = counters.packets_of(self._maps, group_id, slot_id)
                slot.base_in, slot.base_out = packets
        entries.set_entry(slot, index, array_entry)
        group_entries.write_slot(slot_id, slot)
        record.index = index
        if self._tubular is not None and self._maps.dissector(group_id).label:
            self._tubular.hold(group_id, slot_id, fd)

    def _generation_asked_for(self, message: abi.Message, fd: int) -> int:
        """Return the generation that a socket has asked for last: messages come in any order."""
        request = records.request_of(self._maps, fd)
        if request is not None:
            here = request.group == message.group_id + 1 and request.epoch == message.epoch
            if here and request.registered:
                return int(request.generation)
        return int(message.generation)

    def _free_index(
        self,
        group_id: int,
        slot_id: int,
        slot: abi.Slot,
        array_entry: int,
        group_entries: GroupEntries,
    ) -> Optional[int]:
        """Return the lowest index of a generation that a socket can have; None: it is full."""
        taken = list(slot.array_entry)
        if array_entry in taken:
            return taken.index(array_entry)
        start = self._taken_until.get((group_id, slot_id), 0)
        index = group_entries.first_free_index(slot, start)
        self._taken_until[group_id, slot_id] = abi.SLOT_SOCKETS if index is None else index + 1
        return index

    def _leave_generation(
        self, group_id: int, record: abi.Registration, group_entries: GroupEntries
    ) -> None:
        """Remove a socket from the generation that it moves from."""
        slot = group_entries.slot(record.slot)
        entries.drop_entries(slot, {record.array_entry})
        group_entries.write_slot(record.slot, slot)
        self._taken_until.pop((group_id, record.slot), None)
