# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""find_flow and refresh_flow of bpf/flows.h, against what they are to do.

Slot n has flow table n + 1; jiffies are small numbers here.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st

from udpgrm import abi

NOW = 1000
TIMEOUT = 100
KEY = abi.FlowKey(port=1)
ORPHAN = 1
ME, ANOTHER = 7, 8
CROSSED = "crossed"

slots = st.integers(0, abi.GENERATION_SLOTS - 1)
#: Slot -> jiffies of its entry's last refresh.
entries = st.dictionaries(
    slots, st.sampled_from([NOW, NOW - TIMEOUT, NOW - TIMEOUT - 1, 0]), max_size=6
)


@dataclass
class Found:
    owner: int
    slot: int
    stale: bool
    lookups: int


class Group:
    """A group whose slots have the given entries; an entry's owner is its slot + 100."""

    def __init__(self, functions: ctypes.CDLL, draining: set[int], last: dict[int, int]) -> None:
        self._functions = functions
        self.record = abi.Group(timeout_jiffies=TIMEOUT)
        for slot in draining:
            self.record.table_mask |= 1 << slot
        for slot in range(abi.GENERATION_SLOTS):
            self.record.table[slot] = slot + 1
        functions.test_clear(NOW)
        for slot, jiffies in last.items():
            self.put(slot, abi.Flow(owner=slot + 100, last=jiffies, array_entry=slot))

    def put(self, slot: int, flow: abi.Flow, key: abi.FlowKey = KEY) -> None:
        assert self._functions.test_put(slot + 1, ctypes.byref(key), ctypes.byref(flow))

    def entry(self, slot: int) -> Optional[abi.Flow]:
        flow = abi.Flow()
        there = self._functions.test_get(slot + 1, ctypes.byref(KEY), ctypes.byref(flow))
        return flow if there else None

    def find(self, first: int) -> Found:
        owner, slot, stale = ctypes.c_uint64(), ctypes.c_uint32(), ctypes.c_bool()
        lookups = self._functions.test_find(
            ctypes.byref(self.record),
            first,
            ctypes.byref(KEY),
            ctypes.byref(owner),
            ctypes.byref(slot),
            ctypes.byref(stale),
        )
        return Found(owner.value, slot.value, stale.value, lookups)

    def refresh(self, slot: int, array_entry: int = 3) -> tuple[str, bool]:
        """Return the counter's name, or CROSSED, and whether an expired entry was there."""
        stale = ctypes.c_bool()
        counter = self._functions.test_refresh(
            ctypes.byref(self.record), slot, ctypes.byref(KEY), ME, array_entry, ctypes.byref(stale)
        )
        return (*abi.COUNTERS, CROSSED)[counter], stale.value


def newest_first(first: int, draining: set[int]) -> list[int]:
    behind = ((first - step) % abi.GENERATION_SLOTS for step in range(1, abi.GENERATION_SLOTS))
    return [first, *(slot for slot in behind if slot in draining)]


@given(first=slots, draining=st.sets(slots), last=entries)
def test_the_newest_fresh_entry_is_found(
    functions: ctypes.CDLL, first: int, draining: set[int], last: dict[int, int]
) -> None:
    expected, stale, looked = 0, False, 0
    for slot in newest_first(first, draining):
        looked += 1
        if slot in last:
            if last[slot] >= NOW - TIMEOUT:
                expected = slot + 100
                break
            stale = True
    found = Group(functions, draining, last).find(first)
    assert (found.owner, found.stale, found.lookups) == (expected, stale, looked)
    if expected:
        assert found.slot == expected - 100


@given(first=slots)
def test_one_lookup_when_nothing_drains(functions: ctypes.CDLL, first: int) -> None:
    assert Group(functions, {first}, {}).find(first).lookups == 1


def test_a_generation_without_a_table(functions: ctypes.CDLL) -> None:
    group = Group(functions, {4, 5}, {4: NOW})
    group.record.table[5] = 0
    assert group.find(5).owner == 104
    assert group.refresh(5) == (CROSSED, False)
    group.record.table_mask = 0
    assert group.refresh(5) == ("tx_flow_create_error", False)


def test_a_refresh_of_another_cpu_that_is_ahead_is_fresh(functions: ctypes.CDLL) -> None:
    assert Group(functions, set(), {4: NOW + 1}).find(4).owner == 104


@given(slot=slots, draining=st.sets(slots), last=entries)
def test_sending(
    functions: ctypes.CDLL, slot: int, draining: set[int], last: dict[int, int]
) -> None:
    group = Group(functions, draining, last)
    before = group.find(slot)
    counter, stale = group.refresh(slot)
    if before.owner:
        # another socket's, and a fresh entry never moves; one of its generation refreshes it
        same = before.slot == slot
        assert counter == ("tx_flow_update_conflict" if same else CROSSED)
        entry = group.entry(before.slot)
        assert entry is not None
        assert (entry.owner, entry.array_entry) == (before.owner, before.slot)
        assert entry.last == (NOW if same else last[before.slot])
    else:
        assert (counter, stale) == ("tx_flow_create_ok", before.stale)
        entry = group.entry(slot)
        assert entry is not None
        assert (entry.owner, entry.last, entry.array_entry, entry.flags) == (ME, NOW, 3, 0)


@given(slot=slots, where=slots)
def test_ones_own_entry_is_refreshed_where_it_is(
    functions: ctypes.CDLL, slot: int, where: int
) -> None:
    # a socket that moved on to another generation keeps its flows
    group = Group(functions, {slot, where}, {})
    group.put(where, abi.Flow(owner=ME, last=NOW - TIMEOUT, array_entry=abi.ENTRY_NONE))
    assert group.refresh(slot) == ("tx_flow_update_ok", False)
    entry = group.entry(where)
    assert entry is not None
    assert (entry.owner, entry.last, entry.array_entry) == (ME, NOW, 3)
    assert where == slot or group.entry(slot) is None


@given(slot=slots, where=slots)
def test_the_flow_of_a_closed_socket_is_taken_over(
    functions: ctypes.CDLL, slot: int, where: int
) -> None:
    group = Group(functions, {slot, where}, {})
    group.put(where, abi.Flow(owner=ANOTHER, last=NOW, array_entry=9, flags=ORPHAN))
    assert group.refresh(slot) == ("tx_flow_create_ok", True)
    found = group.find(slot)
    assert (found.owner, found.slot) == (ME, slot)
    if where != slot:
        # no lookup finds the old entry before the new one
        assert group.find(where).owner == ME


def test_a_full_table(functions: ctypes.CDLL) -> None:
    group = Group(functions, {4}, {})
    for port in range(100, 108):
        group.put(4, abi.Flow(owner=ANOTHER, last=NOW), abi.FlowKey(port=port))
    assert group.refresh(4) == ("tx_flow_create_error", False)
