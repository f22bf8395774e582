# SPDX-License-Identifier: Apache-2.0
"""Groups and flow tables that hooks can take without the daemon, some with their maps prepared."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Callable

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state.entries import empty_slot
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps, index

#: States of a group that has an owner.
_IN_USE = (GroupState.LIVE, GroupState.DELETED)


#: Groups that are prepared in one call.
_AT_ONCE = 32
#: Flow tables that are prepared in one call, at most, if the last ones were all taken that fast:
#: each call waits for all running programs.
_TABLES_AT_ONCE = 8
_SOON_S = 1.0


def is_reserved(number: int) -> bool:
    """Return whether the id of a group or a flow table is kept for root (bpf/groups.h)."""
    return number % abi.RESERVE == abi.RESERVE - 1


def _spares(roots: bool) -> str:
    return "root_spares" if roots else "spare_groups"


def _share(prepared: int, ids: Counter[bool], roots: bool) -> int:
    """Return how many of the prepared ids are for root only, or for any user; ids: all."""
    for_root = min(max(1, prepared // 4), ids[True])
    return for_root if roots else max(1, prepared - for_root)


class Pool:
    """Fills the queues of free groups and free flow tables."""

    def __init__(self, maps: Maps, limits: Limits) -> None:
        """Count what an earlier daemon has prepared or allocated."""
        self._maps = maps
        self._limits = limits
        self._entries: Counter[int] = Counter()
        #: Ids without a flow table: by whether they are root's
        self._spare_tables: dict[bool, list[int]] = {True: [], False: []}
        self._groups = Counter(is_reserved(number) for number in range(limits.groups))
        self._tables = Counter(is_reserved(number) for number in range(1, layout.MAX_TABLES))
        for number in range(1, layout.MAX_TABLES):
            if not maps.has_inner("flow_tables", number):
                self._spare_tables[is_reserved(number)].append(number)
        #: When (monotonic seconds) flow tables were prepared last, and how many
        self._prepared = {True: (-_SOON_S, 0), False: (-_SOON_S, 0)}
        #: Whether fewer groups than wanted were prepared the last time
        self._is_short = {True: False, False: False}
        self._offer_new_ids()
        self._recount()

    def _offer_new_ids(self) -> None:
        """Offer to hooks the ids that were never used."""
        for group_id in self._maps.groups_in(GroupState.SPARE):
            if not self._maps.group(group_id).epoch:
                self._offer(group_id, 1)

    def _offer(self, group_id: int, epoch: int) -> None:
        """Offer an id to hooks; its maps are made once it is prepared, or in use."""
        spare = abi.Group(epoch=epoch, state=GroupState.SPARE)
        libbpf.map_update(self._maps["groups"], index(group_id), bytes(spare))
        libbpf.map_update(self._maps[_spares(is_reserved(group_id))], None, index(group_id))

    def _recount(self) -> None:
        """Correct the counts of what users use: a daemon that was killed may have miscounted."""
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

    def refill(self) -> bool:
        """Prepare what the limits ask for, once half of it is in use; root's first.

        Not one by one: an update of a map of maps waits for all running programs,
        and a call can update many. Not all at once either: messages wait meanwhile.
        Returns whether there is more to prepare.
        """
        for roots in (True, False):
            wanted = _share(self._limits.prepared_groups, self._groups, roots)
            ready = self._groups_in(GroupState.PREPARED, roots)
            if len(ready) <= wanted // 2 or self._is_short[roots]:
                missing = wanted - len(ready)
                prepared = self._prepare_groups(min(missing, _AT_ONCE), roots)
                self._is_short[roots] = prepared == _AT_ONCE < missing
        used = self._maps.tables_of(*_IN_USE)
        for roots in (True, False):
            taken = sum(is_reserved(number) == roots for number in used)
            queued = self._tables[roots] - len(self._spare_tables[roots]) - taken
            wanted = _share(self._limits.prepared_tables, self._tables, roots)
            if queued <= wanted // 2:
                self._prepare_tables(self._to_prepare(wanted, queued, roots), roots)
        return any(self._is_short.values())

    def _to_prepare(self, wanted: int, queued: int, roots: bool) -> int:
        """Return how many flow tables to prepare: twice as many each time all are taken fast."""
        now, count = time.monotonic(), wanted - queued
        at, last = self._prepared[roots]
        if not queued and now - at < _SOON_S:
            count = max(count, min(2 * last, _TABLES_AT_ONCE))
        self._prepared[roots] = now, count
        return count

    def _prepare_tables(self, count: int, roots: bool) -> None:
        queue = "root_tables" if roots else "free_tables"
        for number in self._new_tables(count, roots):
            libbpf.map_update(self._maps[queue], None, index(number))

    def _groups_in(self, state: GroupState, roots: bool) -> list[int]:
        return [item for item in self._maps.groups_in(state) if is_reserved(item) == roots]

    def count_entries(self, of_groups: Iterable[tuple[int, int]]) -> None:
        """Count the sockets that have entries: (group id, how many)."""
        self._entries = Counter()
        for group_id, count in of_groups:
            self._entries[abi.user_of(self._maps.group(group_id).uid)] += count

    def take_entry(self, group: abi.Group) -> None:
        """Count an entry. Raises LookupError if the user's or the global quota is exhausted."""
        owner = abi.user_of(group.uid)
        most = self._limits.groups_per_user * layout.ENTRIES_PER_GROUP
        if group.uid and self._entries[owner] >= most:
            raise LookupError(
                f"uid {group.uid} has {self._entries[owner]} sockets "
                f"({layout.ENTRIES_PER_GROUP} for each of limits.groups_per_user)"
            )
        there_can_be = self._maps.group_count * layout.ENTRIES_PER_GROUP
        if group.uid:
            there_can_be -= there_can_be // abi.RESERVE
        if sum(self._entries.values()) >= there_can_be:
            raise LookupError(
                f"all sockets there can be are registered "
                f"({layout.ENTRIES_PER_GROUP} for each of limits.groups)"
            )
        self._entries[owner] += 1

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

    def _prepare_groups(self, count: int, roots: bool) -> int:
        """Prepare spare groups, and return how many."""
        spares, prepared = self._maps[_spares(roots)], "root_groups" if roots else "free_groups"
        popped = (libbpf.map_pop(spares, 4) for _ in range(count))
        taken = list(itertools.takewhile(lambda key: key is not None, popped))
        group_ids = [int.from_bytes(key, sys.byteorder) for key in taken if key is not None]
        for group_id in group_ids:  # if this daemon is killed now, the next one offers them again
            self._maps.group(group_id).state = GroupState.DELETED
        try:
            self._make_maps(group_ids)
        except Exception:
            for group_id in group_ids:
                self._maps.group(group_id).state = GroupState.SPARE
                libbpf.map_update(spares, None, index(group_id))
            raise
        for group_id in group_ids:
            self._maps.group(group_id).state = GroupState.PREPARED
            libbpf.map_update(self._maps[prepared], None, index(group_id))
        return len(group_ids)

    def _make_maps(self, group_ids: Sequence[int]) -> None:
        self._install("sockets", group_ids, layout.make_sockets)
        self._install("counters", group_ids, layout.make_counters)
        self._install("slots", group_ids, make_empty_slots)

    def ensure_maps(self, group_id: int) -> None:
        """Make the maps of a group that a hook has taken without, and of others at once.

        Servers of many addresses take more groups in an instant than are prepared.
        """
        if self._has_maps(group_id):
            return
        live = self._maps.groups_in(GroupState.LIVE)
        others = [number for number in live if number != group_id and not self._has_maps(number)]
        self._make_maps([group_id, *others[: _AT_ONCE - 1]])

    def _has_maps(self, group_id: int) -> bool:
        return self._maps.has_inner("slots", group_id)  # made last

    def _new_tables(self, count: int, roots: bool, flows: int = 0) -> list[int]:
        """Make empty flow tables and return their ids; fewer if all are in use."""
        spare = self._spare_tables[roots]
        numbers = spare[:count]
        entries = flows or self._limits.flows
        self._install("flow_tables", numbers, lambda: layout.make_flow_table(entries))
        del spare[:count]
        return numbers

    def ensure_table(self, group_id: int, group: abi.Group, slot: int) -> None:
        """Give a generation its flow table, unless a hook has done so."""
        if group.table[slot]:
            return
        key = bytes(abi.TableKey(group_id=group_id, epoch=group.epoch, slot=slot))
        user = self._maps.user(abi.user_of(group.uid))
        in_use = (user.tables_taken - user.tables_returned) % 2**32
        if group.uid and in_use >= self._limits.tables_per_user:
            raise LookupError(f"uid {group.uid} has {in_use} flow tables (limits.tables_per_user)")
        tables = self._new_tables(1, False, group.flows)
        if not tables and not group.uid:
            tables = self._new_tables(1, True, group.flows)
        if not tables:
            raise LookupError(f"all {layout.MAX_TABLES} flow tables are in use")
        table = tables[0]
        try:
            libbpf.map_update(self._maps["table_index"], key, index(table), libbpf.NOEXIST)
        except OSError as error:
            self._drop_table(table)
            if not isinstance(error, FileExistsError):
                raise
            # a hook is giving it one now, or a daemon was killed before the next line
            given = libbpf.map_lookup(self._maps["table_index"], key, 4)
            table = int.from_bytes(given or b"", sys.byteorder)
        else:
            user.tables_returned -= 1  # taken; tables_taken is the hooks'
        group.table[slot] = table

    def _drop_table(self, table: int) -> None:
        self._maps.drop_inner("flow_tables", table)
        self._spare_tables[is_reserved(table)].insert(0, table)

    def release_table(self, group_id: int, group: abi.Group, slot: int) -> None:
        """Release a generation's flow table, and delete its entries."""
        group.table_mask &= ~(1 << slot)
        table, group.table[slot] = group.table[slot], 0
        key = abi.TableKey(group_id=group_id, epoch=group.epoch, slot=slot)
        libbpf.map_delete(self._maps["table_index"], bytes(key))
        if table:
            self._maps.user(abi.user_of(group.uid)).tables_returned += 1
            self._drop_table(table)

    def release_group(self, group_id: int, group: abi.Group) -> None:
        """Offer a deleted group's id to hooks again; its maps are replaced when it is used."""
        for slot in range(abi.GENERATION_SLOTS):
            if group.table[slot]:
                self.release_table(group_id, group, slot)
        if self._maps.has_inner("sockmaps", group_id):
            self._maps.drop_inner("sockmaps", group_id)
        self._maps.user(abi.user_of(group.uid)).groups_gone += 1
        for outer in ("slots", "counters", "sockets"):
            self._maps.disown_inner(outer, group_id)
        self._offer(group_id, group.epoch + 1)

    def ensure_sockmap(self, group_id: int) -> None:
        """Give a group the kind of socket map that permits tubular to have its sockets too."""
        if not self._maps.has_inner("sockmaps", group_id):
            self._install("sockmaps", [group_id], layout.make_sockmap)


def make_empty_slots() -> int:
    """Make the map of a group's generations, without any yet. Returns an fd."""
    fd = layout.make_slots()
    libbpf.map_fill(fd, bytes(empty_slot()), abi.GENERATION_SLOTS)
    return fd
