# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Garbage collection of what closed sockets, ended generations, groups and commands held."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.daemon.adoptions import Adoptions
from udpgrm.daemon.inbox import Inbox
from udpgrm.daemon.messages import MessageHandler
from udpgrm.kernel import cgroups, libbpf, pidfd
from udpgrm.loader.pool import Pool
from udpgrm.state import connected, entries
from udpgrm.state import maps as state
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

#: Enrollments that are looked at before root's messages are served again.
_ENROLLED_AT_A_TIME = 256


class GarbageCollector:
    """Collects the garbage of all groups, now and then."""

    def __init__(
        self,
        maps: Maps,
        pool: Pool,
        messages: MessageHandler,
        adoptions: Adoptions,
        inbox: Inbox,
    ) -> None:
        """Collect in these maps."""
        self._adoptions = adoptions
        self._inbox = inbox
        self._maps = maps
        self._pool = pool
        self._messages = messages
        self._sees_all_pids = pidfd.sees_all_pids()
        #: By group id: the (application, generation) that had sockets in this round
        self._served: dict[int, set[tuple[int, int]]] = {}
        #: Groups that had no socket in the last round: group id -> epoch, next array entry
        self._childless: dict[int, tuple[int, int]] = {}

    @property
    def is_due_soon(self) -> bool:
        """Return whether a group may be without sockets now."""
        return self._messages.missed_one or bool(self._childless)

    def steps(self) -> Iterator[None]:
        """Release what closed sockets, ended generations, groups and processes held.

        Messages may be served after each step.
        """
        self._messages.missed_one = False
        self._served = {}
        by_group: dict[int, dict[int, bytes]] = {}
        for key, value in list(
            libbpf.map_items(self._maps["entries"], 8, ctypes.sizeof(abi.EntryRef))
        ):
            ref = abi.EntryRef.from_buffer_copy(value)
            by_group.setdefault(ref.group_id, {})[ref.array_entry] = key
        live = self._maps.groups_in(GroupState.LIVE)
        for group_id in self._childless.keys() - set(live):
            del self._childless[group_id]
        for group_id in live:
            group = self._maps.group(group_id)
            if group.state != GroupState.LIVE:
                continue  # deleted since, by a command or a hook
            self._messages.announce(group_id, group)
            self._collect_group(group_id, group, by_group.setdefault(group_id, {}))
            yield
        for group_id in self._maps.groups_in(GroupState.DELETED):
            for key in by_group.pop(group_id, {}).values():
                libbpf.map_delete(self._maps["entries"], key)
            self._messages.drop_group(group_id)
            self._pool.release_group(group_id, self._maps.group(group_id))
            yield
        self._pool.count_entries((group_id, len(entered)) for group_id, entered in by_group.items())
        self._collect_probes()
        yield from self._collect_enrolled()

    def _collect_enrolled(self) -> Iterator[None]:
        """Delete enrollments of processes and cgroups that have ended, or whose group is gone.

        Counts each user's enrollments again. Those that hooks add meanwhile may count twice until
        the next round.
        """
        enrolled = self._maps["enrolled"]
        counts = [self._maps.enrolled_count(number) for number in range(abi.USERS)]
        left = [count.made for count in counts]
        sizes = ctypes.sizeof(abi.AdoptedKey), ctypes.sizeof(abi.Adopted)
        records = [
            (abi.AdoptedKey.from_buffer_copy(key), abi.Adopted.from_buffer_copy(value))
            for key, value in libbpf.map_items(enrolled, *sizes)
        ]
        removed = self._removed_cgroups(records)
        for turn, (key, _) in enumerate(records):
            if turn % _ENROLLED_AT_A_TIME == 0:
                yield
            group = self._group_of(key)
            if group is None or key.cgroup in removed or not self._is_there(key):
                libbpf.map_delete(enrolled, bytes(key))
            else:
                left[abi.user_of(group.uid)] -= 1
        for count, gone in zip(counts, left):
            count.gone = gone

    def _removed_cgroups(self, records: list[tuple[abi.AdoptedKey, abi.Adopted]]) -> set[int]:
        """Return the cgroups of these records that were removed, as systemd does with a unit's.

        Only those whose generation has no socket are looked for: that reads the whole tree.
        """
        wanted = {
            int(key.cgroup)
            for key, of in records
            if key.cgroup < abi.ENROLLED_PROCESS
            and (of.app, of.generation) not in self._served.get(key.group_id, ())
        }
        with contextlib.suppress(FileNotFoundError):  # no cgroup2 can be seen from here
            return wanted - cgroups.find(wanted).keys()
        return set()

    def _is_there(self, key: abi.AdoptedKey) -> bool:
        """Return whether a process may still run; other pid namespaces cannot be checked."""
        pid = key.cgroup - abi.ENROLLED_PROCESS
        return pid < 0 or not self._sees_all_pids or Path(f"/proc/{pid}").exists()

    def _group_of(self, key: Union[abi.ProbeKey, abi.AdoptedKey]) -> Optional[abi.Group]:
        """Return the live group that a record belongs to."""
        if key.group_id >= self._maps.group_count:
            return None
        group = self._maps.group(key.group_id)
        return group if group.state == GroupState.LIVE and group.epoch == key.epoch else None

    def _collect_probes(self) -> None:
        """Delete the entries of probes whose commands were killed."""
        now, probes = self._maps.clock.now(), self._maps["probes"]
        sizes = ctypes.sizeof(abi.ProbeKey), ctypes.sizeof(abi.Probe)
        for raw, value in list(libbpf.map_items(probes, *sizes)):
            group = self._group_of(abi.ProbeKey.from_buffer_copy(raw))
            expired = abi.Probe.from_buffer_copy(value).expires < now
            if (group is None or expired) and libbpf.map_delete(probes, raw) and group is not None:
                group.probes -= 1

    def _collect_group(self, group_id: int, group: abi.Group, entered: dict[int, bytes]) -> None:
        # a group that a hook took without maps has no socket registered
        with contextlib.suppress(LookupError), GroupEntries(self._maps, group_id) as group_entries:
            self._collect_sockets(group_id, group, entered, group_entries)
        # a socket that was entered since the entries were read has had the next one
        now = int(group.epoch), int(group.next_entry)
        if (
            entered
            or self._messages.awaits(group_id, group.epoch)
            or self._adoptions.holds(group_id, group.epoch)
            or connected.has_any(self._maps, group_id, group)
        ):
            self._childless.pop(group_id, None)
        elif self._childless.get(group_id) == now and self._inbox.has_nothing():
            # no socket for two rounds, and no registration is under way
            del self._childless[group_id]
            state.delete(self._maps, group_id)
            if not self._inbox.has_nothing():
                # a hook may have found it just before: its message is of no other group
                state.restore(self._maps, group_id)
        else:
            self._childless[group_id] = now

    def _collect_sockets(
        self,
        group_id: int,
        group: abi.Group,
        entered: dict[int, bytes],
        group_entries: GroupEntries,
    ) -> None:
        """Delete what closed sockets of a group have left, and their entries from `entered`."""
        dead = {
            array_entry for array_entry in entered if group_entries.cookie_at(array_entry) is None
        }
        living = set()
        for slot_number, slot in group_entries.used_slots():
            if dead.intersection(slot.live_entries[: slot.live]):
                slot = group_entries.slot(slot_number)
                entries.drop_entries(slot, dead)
                # without a socket it still has its last generation: for udpgrm drain
                group_entries.write_slot(slot_number, slot)
            if slot.live:
                living.add(slot_number)
                self._served.setdefault(group_id, set()).add((slot.app, slot.generation))
        for slot_number in range(abi.GENERATION_SLOTS):
            if group.table[slot_number] and slot_number not in living:
                self._collect_table(group_id, group, slot_number, group_entries)
        for array_entry in dead:
            libbpf.map_delete(self._maps["entries"], entered.pop(array_entry))

    def _collect_table(
        self, group_id: int, group: abi.Group, slot: int, group_entries: GroupEntries
    ) -> None:
        """Release the table of a slot without sockets, unless flows in it continue.

        Such flows are of sockets that moved to another generation, or are in none. The array has
        those too that were entered since this round began.
        """
        now, closed = self._maps.clock.now(), set()
        with self._maps.inner("flow_tables", group.table[slot]) as fd:
            for flow in state.flows_in(fd) if fd is not None else ():
                if flow.array_entry in closed or now - flow.last > group.timeout_jiffies:
                    continue
                if group_entries.cookie_at(flow.array_entry) is not None:
                    group.table_mask |= 1 << slot
                    return
                closed.add(flow.array_entry)
        self._pool.release_table(group_id, group, slot)
