# SPDX-License-Identifier: Apache-2.0
"""Groups and flow tables kept ready, so that hooks need no daemon to take one."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Callable

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps, index
from udpgrm.state.seats import empty_slot

#: States of a group that has an owner.
_IN_USE = (GroupState.LIVE, GroupState.DELETED)


class Pool:
    """Fills the queues of free groups and free flow tables."""

    def __init__(self, maps: Maps, limits: Limits) -> None:
        """Take stock of what an earlier daemon has prepared or given out."""
        self._maps = maps
        self._limits = limits
        self._seats: Counter[int] = Counter()
        there = {
            number
            for number in range(1, layout.MAX_TABLES)
            if maps.has_inner("flow_tables", number)
        }
        self._tables_made = max(there, default=0) + 1
        self._spare_tables = sorted(set(range(1, self._tables_made)) - there)
        self._recount()

    def _recount(self) -> None:
        """What users have in use: a daemon that was killed may have lost count."""
        groups: dict[int, int] = {}
        tables: dict[int, int] = {}
        for group in map(self._maps.group, self._maps.groups_in(*_IN_USE)):
            owner = abi.user_of(group.uid)
            groups[owner] = groups.get(owner, 0) + 1
            taken = sum(table != 0 for table in group.table)
            tables[owner] = tables.get(owner, 0) + taken
        for number in range(abi.USERS):
            user = self._maps.user(number)
            user.groups_gone = user.groups_made - groups.get(number, 0)
            user.tables_returned = user.tables_taken - tables.get(number, 0)

    def forgive(self) -> None:
        """Count no message as outstanding: all there were have been served."""
        for number in range(abi.USERS):
            user = self._maps.user(number)
            user.messages_served = user.messages_sent

    def refill(self) -> None:
        """Prepare what the limits ask for, once half of it has been taken.

        Not one by one: putting a map into a map of maps waits for all running
        programs, and a call can put many.
        """
        ready = len(self._maps.groups_in(GroupState.PREPARED))
        if ready <= self._limits.prepared_groups // 2:
            free = self._maps.groups_in(GroupState.FREE)
            self._prepare_groups(free[: self._limits.prepared_groups - ready])
        used = {
            table
            for number in self._maps.groups_in(*_IN_USE)
            for table in set(self._maps.group(number).table) - {0}
        }
        queued = self._tables_made - 1 - len(used) - len(self._spare_tables)
        if queued <= self._limits.prepared_tables // 2:
            for number in self._new_tables(self._limits.prepared_tables - queued):
                libbpf.map_update(self._maps["free_tables"], None, index(number))

    def count_seats(self, of_groups: Iterable[tuple[int, int]]) -> None:
        """Take stock of the sockets that have seats: (group id, how many)."""
        self._seats = Counter()
        for number, count in of_groups:
            self._seats[abi.user_of(self._maps.group(number).uid)] += count

    def take_seat(self, group: abi.Group) -> None:
        """Count one more. Raises LookupError when its owner, or everybody, has all there may be."""
        owner = abi.user_of(group.uid)
        most = self._limits.groups_per_user * layout.SEATS_PER_GROUP
        if group.uid and self._seats[owner] >= most:
            raise LookupError(
                f"uid {group.uid} has {self._seats[owner]} sockets "
                f"({layout.SEATS_PER_GROUP} for each of limits.groups_per_user)"
            )
        if sum(self._seats.values()) >= self._maps.config.groups * layout.SEATS_PER_GROUP:
            raise LookupError(
                f"all sockets there can be are registered "
                f"({layout.SEATS_PER_GROUP} for each of limits.groups)"
            )
        self._seats[owner] += 1

    def _install(self, outer: str, numbers: Sequence[int], make: Callable[[], int]) -> None:
        made: dict[int, int] = {}
        try:
            for number in numbers:
                made[number] = make()
            if made:
                self._maps.put_inner(outer, made)
        finally:
            for fd in made.values():
                os.close(fd)

    def _prepare_groups(self, numbers: Sequence[int]) -> None:
        self._install("sockets", numbers, layout.make_sockets)
        self._install("counters", numbers, layout.make_counters)
        self._install("slots", numbers, make_empty_slots)
        for number in numbers:
            epoch = self._maps.group(number).epoch + 1
            fresh = abi.Group(epoch=epoch, state=GroupState.PREPARED)
            libbpf.map_update(self._maps["groups"], index(number), bytes(fresh))
            libbpf.map_update(self._maps["free_groups"], None, index(number))

    def _new_tables(self, count: int, flows: int = 0) -> list[int]:
        """Ids of empty flow tables that no queue holds; fewer when all are in use."""
        numbers = self._spare_tables[:count]
        del self._spare_tables[:count]
        while len(numbers) < count and self._tables_made < layout.MAX_TABLES:
            numbers.append(self._tables_made)
            self._tables_made += 1
        entries = flows or self._limits.flows
        self._install("flow_tables", numbers, lambda: layout.make_flow_table(entries))
        return numbers

    def ensure_table(self, number: int, group: abi.Group, slot: int) -> None:
        """Give a generation its flow table, where no hook has done so."""
        if group.table[slot]:
            return
        key = bytes(abi.TableKey(group=number, epoch=group.epoch, slot=slot))
        user = self._maps.user(abi.user_of(group.uid))
        in_use = (user.tables_taken - user.tables_returned) % 2**32
        if group.uid and in_use >= self._limits.tables_per_user:
            raise LookupError(f"uid {group.uid} has {in_use} flow tables (limits.tables_per_user)")
        tables = self._new_tables(1, group.flows)
        if not tables:
            raise LookupError(f"all {layout.MAX_TABLES} flow tables are in use")
        table = tables[0]
        try:
            libbpf.map_update(self._maps["table_index"], key, index(table), libbpf.NOEXIST)
        except FileExistsError:
            # a hook is giving it one just now, or a daemon was killed before the next line
            libbpf.map_update(self._maps["free_tables"], None, index(table))
            given = libbpf.map_lookup(self._maps["table_index"], key, 4)
            table = int.from_bytes(given or b"", sys.byteorder)
        else:
            user.tables_returned -= 1  # taken; that counter is the hooks'
        group.table[slot] = table

    def release_table(self, number: int, group: abi.Group, slot: int) -> None:
        """Take a generation's flow table back; its entries are gone with it."""
        group.table_mask &= ~(1 << slot)
        table, group.table[slot] = group.table[slot], 0
        key = abi.TableKey(group=number, epoch=group.epoch, slot=slot)
        libbpf.map_delete(self._maps["table_index"], bytes(key))
        if table:
            self._maps.user(abi.user_of(group.uid)).tables_returned += 1
            self._maps.drop_inner("flow_tables", table)
            self._spare_tables.append(table)

    def release_group(self, number: int, group: abi.Group) -> None:
        """Let a forgotten group's id be used again, and its maps be replaced then."""
        for slot in range(abi.GENERATION_SLOTS):
            if group.table[slot]:
                self.release_table(number, group, slot)
        if self._maps.has_inner("sockmaps", number):
            self._maps.drop_inner("sockmaps", number)
        self._maps.user(abi.user_of(group.uid)).groups_gone += 1
        group.state = GroupState.FREE

    def ensure_sockmap(self, number: int) -> None:
        """Give a group the kind of socket map that lets tubular have its sockets too."""
        if not self._maps.has_inner("sockmaps", number):
            self._install("sockmaps", [number], layout.make_sockmap)


def make_empty_slots() -> int:
    """A group's generations, none yet. Returns an fd."""
    fd = layout.make_slots()
    blank = bytes(empty_slot())
    for slot in range(abi.GENERATION_SLOTS):
        libbpf.map_update(fd, index(slot), blank)
    return fd
