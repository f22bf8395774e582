# SPDX-License-Identifier: Apache-2.0
"""Groups and flow tables kept ready, so that hooks need no daemon to take one."""

from __future__ import annotations

import os
import sys
from typing import Callable

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.kernel import libbpf
from udpgrm.state import maps as state
from udpgrm.state.maps import Limits, Maps, index
from udpgrm.state.seats import empty_slot


def _number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


class Pool:
    """Fills the queues of free groups and free flow tables."""

    def __init__(self, maps: Maps, limits: Limits) -> None:
        """Take stock of what an earlier daemon has prepared or given out."""
        self._maps = maps
        self._limits = limits
        self._groups = maps.config.groups
        made = 1
        while made < state.MAX_TABLES and libbpf.map_lookup(maps["flow_tables"], index(made), 4):
            made += 1
        self._tables_made = made
        self._spare_tables: list[int] = []

    def refill(self) -> None:
        """Prepare as many groups and tables as the limits ask for."""
        groups = [self._maps.group(number) for number in range(self._groups)]
        ready = sum(group.state == GroupState.PREPARED for group in groups)
        for number, group in enumerate(groups):
            if ready >= self._limits.prepared_groups:
                break
            if group.state == GroupState.FREE:
                self._prepare_group(number, group)
                ready += 1
        used = {
            table
            for group in groups
            if group.state in (GroupState.LIVE, GroupState.DELETED)
            for table in tables_of(group)
        }
        queued = self._tables_made - 1 - len(used) - len(self._spare_tables)
        for _ in range(self._limits.prepared_tables - queued):
            self._queue_table(self.new_table())

    def _install(self, outer: str, number: int, make: Callable[[], int]) -> None:
        fd = make()
        try:
            libbpf.map_update(self._maps[outer], index(number), _number(fd))
        finally:
            os.close(fd)

    def _prepare_group(self, number: int, group: abi.Group) -> None:
        epoch = group.epoch + 1
        self._install("sockets", number, state.make_sockets)
        self._install("counters", number, state.make_counters)
        slots = state.make_slots()
        try:
            blank = bytes(empty_slot())
            for slot in range(abi.GENERATION_SLOTS):
                libbpf.map_update(slots, index(slot), blank)
            libbpf.map_update(self._maps["slots"], index(number), _number(slots))
        finally:
            os.close(slots)
        fresh = abi.Group(epoch=epoch, state=GroupState.PREPARED)
        libbpf.map_update(self._maps["groups"], index(number), bytes(fresh))
        libbpf.map_update(self._maps["free_groups"], None, _number(number))

    def new_table(self) -> int:
        """The id of an empty flow table that no queue holds."""
        if self._spare_tables:
            number = self._spare_tables.pop()
        elif self._tables_made < state.MAX_TABLES:
            number = self._tables_made
            self._tables_made += 1
        else:
            raise LookupError(f"all {state.MAX_TABLES} flow tables are in use")
        self._install("flow_tables", number, lambda: state.make_flow_table(self._limits.flows))
        return number

    def _queue_table(self, number: int) -> None:
        libbpf.map_update(self._maps["free_tables"], None, _number(number))

    def ensure_table(self, number: int, group: abi.Group, slot: int) -> None:
        """Give a generation its flow table, where no hook has done so."""
        if group.table[slot]:
            return
        key = bytes(abi.TableKey(group=number, epoch=group.epoch, slot=slot))
        table = self.new_table()
        try:
            libbpf.map_update(self._maps["table_index"], key, _number(table), libbpf.NOEXIST)
        except FileExistsError:
            # a hook is giving it one just now
            self._queue_table(table)
            return
        group.table[slot] = table

    def release_table(self, number: int, group: abi.Group, slot: int) -> None:
        """Take a generation's flow table back; its entries are gone with it."""
        group.table_mask &= ~(1 << slot)
        table, group.table[slot] = group.table[slot], 0
        key = abi.TableKey(group=number, epoch=group.epoch, slot=slot)
        libbpf.map_delete(self._maps["table_index"], bytes(key))
        if table:
            libbpf.map_delete(self._maps["flow_tables"], index(table))
            self._spare_tables.append(table)

    def release_group(self, number: int, group: abi.Group) -> None:
        """Take a forgotten group's maps back; its id may be used again."""
        for slot in range(abi.GENERATION_SLOTS):
            if group.table[slot]:
                self.release_table(number, group, slot)
        for outer in ("sockets", "slots", "counters"):
            libbpf.map_delete(self._maps[outer], index(number))
        group.state = GroupState.FREE


def tables_of(group: abi.Group) -> set[int]:
    """Ids of the flow tables a group holds."""
    return set(group.table) - {0}
