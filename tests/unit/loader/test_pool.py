# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test that the pool hands out new maps, whatever was prepared, taken or given back before.

Maps are dictionaries here; hooks are played by the test, daemons come and go.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Optional

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.loader import pool
from udpgrm.loader.pool import Pool
from udpgrm.state import layout
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits

LIMITS = Limits(groups=3, flows=64, prepared_groups=2, prepared_tables=3)
QUEUES = (
    "free_groups",
    "root_groups",
    "spare_groups",
    "root_spares",
    "free_tables",
    "root_tables",
)


def number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


class FakeMaps:
    """The state's maps; an inner map is a number that no other ever had."""

    def __init__(self, groups: int = LIMITS.groups) -> None:
        self.group_count = groups
        self.queues: dict[str, list[int]] = {name: [] for name in QUEUES}
        self.content: dict[str, dict[bytes, bytes]] = {}
        self.records = [abi.Group() for _ in range(groups)]
        self.users = [abi.User() for _ in range(abi.USERS)]
        self.made = 0

    def __getitem__(self, name: str) -> str:
        return name

    def group(self, group: int) -> abi.Group:
        return self.records[group]

    def groups_in(self, *states: GroupState) -> list[int]:
        return [group_id for group_id, group in enumerate(self.records) if group.state in states]

    def tables_of(self, *states: GroupState) -> set[int]:
        live = (self.records[number] for number in self.groups_in(*states))
        return {table for group in live for table in group.table if table}

    def user(self, user: int) -> abi.User:
        return self.users[user]

    @contextmanager
    def inner(self, outer: str, key: int) -> Iterator[Optional[int]]:
        found = self.content.get(outer, {}).get(state.index(key))
        yield None if found is None else number(found)

    def update(self, name: str, key: Optional[bytes], value: bytes, flags: int = 0) -> None:
        if key is None:
            self.queues[name].append(number(value))
        elif name == "groups":
            self.records[number(key)] = abi.Group.from_buffer_copy(value)
        else:
            entries = self.content.setdefault(name, {})
            if flags and key in entries:
                raise FileExistsError
            entries[key] = value

    def has_inner(self, outer: str, key: int) -> bool:
        return state.index(key) in self.content.get(outer, {})

    def put_inner(self, outer: str, items: Mapping[int, int]) -> None:
        for key in items:
            self.made += 1
            self.update(outer, state.index(key), state.index(self.made))

    def disown_inner(self, outer: str, key: int) -> None:
        self.delete(outer, state.index(key))

    def pop(self, name: str, size: int) -> Optional[bytes]:
        queue = self.queues[name]
        return state.index(queue.pop(0)) if queue else None

    def drop_inner(self, outer: str, key: int) -> None:
        self.delete(outer, state.index(key))

    def lookup(self, name: str, key: bytes, size: int) -> Optional[bytes]:
        return self.content.get(name, {}).get(key)

    def delete(self, name: str, key: bytes) -> bool:
        return self.content.get(name, {}).pop(key, None) is not None

    def table(self, table: int) -> Optional[int]:
        """Return which inner map is flow table `table`."""
        found = self.lookup("flow_tables", state.index(table), 4)
        return None if found is None else number(found)


def descriptor(*_: object) -> int:
    return os.open(os.devnull, os.O_RDONLY)


@contextmanager
def faked(maps: FakeMaps) -> Iterator[None]:
    """Let the pool's module work on dictionaries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pool,
            "libbpf",
            SimpleNamespace(
                map_update=maps.update,
                map_lookup=maps.lookup,
                map_delete=maps.delete,
                map_pop=maps.pop,
                NOEXIST=1,
            ),
        )
        patch.setattr(pool, "make_empty_slots", descriptor)
        for name in ("make_sockets", "make_counters", "make_flow_table"):
            patch.setattr(layout, name, descriptor)
        yield


def pool_of(maps: FakeMaps) -> Pool:
    return Pool(maps, LIMITS)  # type: ignore[arg-type]


class Restarts(RuleBasedStateMachine):
    """Groups come and go, generations come and go, and so do daemons."""

    @initialize()
    def the_first_daemon(self) -> None:
        self.maps = FakeMaps()
        self.patches = faked(self.maps)
        self.patches.__enter__()
        self.pool = pool_of(self.maps)
        #: (group, slot) -> the inner map that has its flows.
        self.flows: dict[tuple[int, int], Optional[int]] = {}
        self.pool.refill()

    def teardown(self) -> None:
        if hasattr(self, "patches"):
            self.patches.__exit__(None, None, None)

    def live(self) -> list[int]:
        groups = range(LIMITS.groups)
        return [item for item in groups if self.maps.group(item).state == GroupState.LIVE]

    def note(self, group: int, slot: int) -> None:
        table = self.maps.group(group).table[slot]
        assert table not in (
            other.table[place]
            for at, other in enumerate(self.maps.records)
            for place in range(abi.GENERATION_SLOTS)
            if (at, place) != (group, slot)
        )
        self.flows[group, slot] = self.maps.table(table)

    @precondition(lambda self: self.maps.queues["free_groups"])
    @rule()
    def a_hook_makes_a_group(self) -> None:
        group = self.maps.queues["free_groups"].pop(0)
        assert self.maps.group(group).state == GroupState.PREPARED
        self.maps.group(group).state = GroupState.LIVE

    @precondition(lambda self: self.maps.queues["spare_groups"])
    @rule()
    def a_hook_makes_a_group_of_a_spare_one(self) -> None:
        group = self.maps.queues["spare_groups"].pop(0)
        assert self.maps.group(group).state == GroupState.SPARE
        assert not self.maps.has_inner("slots", group)
        self.maps.group(group).state = GroupState.LIVE

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def the_daemon_makes_maps(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(self.live()))
        self.pool.ensure_maps(group)
        for outer in ("slots", "sockets", "counters"):
            assert self.maps.has_inner(outer, group)

    @precondition(lambda self: self.live() and self.maps.queues["free_tables"])
    @rule(data=st.data(), slot=st.integers(0, 3))
    def a_hook_makes_a_generation(self, data: st.DataObject, slot: int) -> None:
        group = data.draw(st.sampled_from(self.live()))
        record = self.maps.group(group)
        if not record.table[slot]:
            table = self.maps.queues["free_tables"].pop(0)
            key = bytes(abi.TableKey(group_id=group, epoch=record.epoch, slot=slot))
            self.maps.update("table_index", key, state.index(table), 1)
            record.table[slot] = table
            self.note(group, slot)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), slot=st.integers(0, 3))
    def the_daemon_makes_a_generation(self, data: st.DataObject, slot: int) -> None:
        group = data.draw(st.sampled_from(self.live()))
        known = (group, slot) in self.flows
        self.pool.ensure_table(group, self.maps.group(group), slot)
        if not known:
            self.note(group, slot)

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def a_generation_ends(self, data: st.DataObject) -> None:
        group, slot = data.draw(st.sampled_from(sorted(self.flows)))
        self.pool.release_table(group, self.maps.group(group), slot)
        del self.flows[group, slot]

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def a_group_ends(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(self.live()))
        self.maps.group(group).state = GroupState.DELETED
        self.pool.release_group(group, self.maps.group(group))
        self.flows = {place: flows for place, flows in self.flows.items() if place[0] != group}

    @rule()
    def the_daemon_looks(self) -> None:
        self.pool.refill()

    @rule()
    def the_daemon_is_replaced(self) -> None:
        self.pool = pool_of(self.maps)
        self.pool.refill()

    @invariant()
    def nobody_loses_flows(self) -> None:
        for (group, slot), flows in self.flows.items():
            table = self.maps.group(group).table[slot]
            assert table
            assert self.maps.table(table) == flows

    @invariant()
    def a_table_is_queued_once_and_then_it_is_free(self) -> None:
        queued = self.maps.queues["free_tables"] + self.maps.queues["root_tables"]
        used = {table for record in self.maps.records for table in record.table if table}
        assert len(queued) == len(set(queued))
        assert used.isdisjoint(queued)
        assert all(self.maps.table(table) for table in queued)

    @invariant()
    def a_group_is_queued_once_and_then_it_is_prepared(self) -> None:
        queued = self.maps.queues["free_groups"] + self.maps.queues["root_groups"]
        assert len(queued) == len(set(queued))
        assert [item for item in queued if self.maps.group(item).state != GroupState.PREPARED] == []

    @invariant()
    def an_unused_group_is_queued_once(self) -> None:
        names = ("free_groups", "root_groups", "spare_groups", "root_spares")
        queued = [item for name in names for item in self.maps.queues[name]]
        unused = self.maps.groups_in(GroupState.PREPARED, GroupState.SPARE)
        assert sorted(queued) == unused


# not shrunk: that takes longer than reading 25 steps
Restarts.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, phases=(Phase.reuse, Phase.generate)
)
TestRestarts = Restarts.TestCase


@pytest.fixture
def maps() -> Iterator[FakeMaps]:
    made = FakeMaps()
    with faked(made):
        yield made


def test_what_is_prepared_at_first(maps: FakeMaps) -> None:
    pool_of(maps).refill()
    assert maps.queues == {
        "free_groups": [0, 1],
        "root_groups": [],  # all ids are below the first of root's
        "spare_groups": [2],
        "root_spares": [],
        "free_tables": [1, 2],
        "root_tables": [7],
    }
    assert [record.epoch for record in maps.records] == [1, 1, 1]


def test_others_take_nothing_of_what_is_kept_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is prepared for root, however much others take, and serve root first."""
    monkeypatch.setattr(layout, "MAX_TABLES", 17)
    maps = FakeMaps(groups=17)
    with faked(maps):
        mine = Pool(maps, Limits(17, 64, prepared_groups=8, prepared_tables=8))  # type: ignore[arg-type]
        for _ in range(40):
            mine.refill()
            for name in ("free_groups", "free_tables"):
                for taken in maps.queues[name]:
                    if name == "free_groups":
                        maps.group(taken).state = GroupState.LIVE
                        maps.group(taken).uid = 7
                    else:
                        maps.group(taken % 7).table[taken] = taken
                maps.queues[name].clear()
        assert maps.queues["root_groups"] == [7, 15]
        assert maps.queues["root_tables"] == [7, 15]
        with pytest.raises(LookupError):
            mine.ensure_table(0, maps.group(0), 20)
        maps.queues["root_groups"].clear()
        maps.group(7).state, maps.group(7).uid = GroupState.LIVE, 0
        monkeypatch.setattr(layout, "MAX_TABLES", 24)
        other = Pool(maps, LIMITS)  # type: ignore[arg-type]
        for slot in range(20, 26):
            other.ensure_table(7, maps.group(7), slot)
        assert [maps.group(7).table[slot] for slot in range(20, 26)] == [17, 18, 19, 20, 21, 22]
        other.ensure_table(7, maps.group(7), 26)
        assert maps.group(7).table[26] == 23


def test_groups_are_prepared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare groups piece by piece, root's first."""
    monkeypatch.setattr(pool, "_AT_ONCE", 2)
    maps = FakeMaps(groups=32)
    with faked(maps):
        mine = Pool(maps, Limits(32, 64, prepared_groups=12, prepared_tables=3))  # type: ignore[arg-type]
        lengths = []
        while mine.refill():
            lengths.append((len(maps.queues["root_groups"]), len(maps.queues["free_groups"])))
        assert lengths == [(2, 2), (3, 4), (3, 6), (3, 8)]
        assert len(maps.queues["free_groups"]) == 9


def test_no_memory_for_a_table_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = FakeMaps()
    with faked(maps):
        mine = pool_of(maps)
        with pytest.MonkeyPatch.context() as patch:

            def fails(*_: object) -> int:
                raise MemoryError

            patch.setattr(layout, "make_flow_table", fails)
            for _ in range(5):
                with pytest.raises(MemoryError):
                    mine.refill()
        mine.refill()
        assert maps.queues["free_tables"] == [1, 2]


def test_no_memory_for_a_group_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = FakeMaps()
    with faked(maps):
        mine = pool_of(maps)
        with pytest.MonkeyPatch.context() as patch:

            def fails(*_: object) -> int:
                raise MemoryError

            patch.setattr(layout, "make_counters", fails)
            with pytest.raises(MemoryError):
                mine.refill()
        mine.refill()
        assert sorted(maps.queues["free_groups"] + maps.queues["spare_groups"]) == [0, 1, 2]
        assert len(maps.queues["free_groups"]) == 2


def test_a_daemon_that_is_killed_while_it_prepares_loses_no_group(maps: FakeMaps) -> None:
    mine = pool_of(maps)
    with pytest.MonkeyPatch.context() as patch:

        def is_killed(*_: object) -> int:
            raise SystemExit

        patch.setattr(layout, "make_counters", is_killed)
        with pytest.raises(SystemExit):
            mine.refill()
    following = pool_of(maps)
    for group_id in maps.groups_in(GroupState.DELETED):
        following.release_group(group_id, maps.group(group_id))
    following.refill()
    assert sorted(maps.queues["free_groups"] + maps.queues["spare_groups"]) == [0, 1, 2]


def test_maps_of_groups_that_were_spare_are_made_together() -> None:
    maps = FakeMaps(groups=80)
    with faked(maps):
        mine = pool_of(maps)
        for group_id in range(60):
            maps.group(group_id).state = GroupState.LIVE
        mine.ensure_maps(50)
        made = [group_id for group_id in range(80) if maps.has_inner("slots", group_id)]
        assert made == [*range(31), 50]
        before = maps.made
        mine.ensure_maps(50)
        assert maps.made == before


def test_more_tables_are_prepared_while_all_are_taken_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("udpgrm.loader.pool.time.monotonic", lambda: now)
    maps = FakeMaps(groups=2)
    prepared = []
    in_use = [(group, slot) for group in maps.records for slot in range(abi.GENERATION_SLOTS)]
    for group in maps.records:
        group.state = GroupState.LIVE
    with faked(maps):
        mine = Pool(maps, Limits(2, 64, 1, prepared_tables=2))  # type: ignore[arg-type]
        for pause in (0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 5.0, 5.0):
            now += pause
            mine.refill()
            queue = maps.queues["root_tables"]
            prepared.append(len(queue))
            while queue:
                group, slot = in_use.pop()
                group.table[slot] = queue.pop()
    assert prepared == [1, 2, 4, 8, 8, 8, 1, 1]


def test_prepared_again_once_half_is_taken() -> None:
    maps = FakeMaps(groups=9)
    with faked(maps):
        mine = Pool(maps, Limits(9, 64, prepared_groups=4, prepared_tables=3))  # type: ignore[arg-type]
        mine.refill()
        for groups, tables in (([1, 2], [2, 3]), ([2, 3, 4], [3, 4])):
            group = maps.group(maps.queues["free_groups"].pop(0))
            group.state = GroupState.LIVE
            group.table[4] = maps.queues["free_tables"].pop(0)
            mine.refill()
            assert maps.queues["free_groups"] == groups
            assert maps.queues["free_tables"] == tables
            assert maps.queues["root_groups"] == [7]


def test_tables_that_were_given_back_are_used_again(
    maps: FakeMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAX_TABLES", 7)
    mine = pool_of(maps)
    mine.refill()
    maps.group(0).state = GroupState.LIVE
    for _ in range(10):
        mine.ensure_table(0, maps.group(0), 5)
        assert maps.table(maps.group(0).table[5]) == maps.made
        mine.release_table(0, maps.group(0), 5)
        assert maps.group(0).table[5] == 0
    for slot in (0, 7, abi.GENERATION_SLOTS - 1):
        mine.ensure_table(0, maps.group(0), slot)
    maps.group(0).state = GroupState.DELETED
    mine.release_group(0, maps.group(0))
    assert maps.group(0).state == GroupState.SPARE
    assert set(maps.group(0).table) == {0}
    assert maps.content["table_index"] == {}


def test_an_id_that_is_used_again_has_another_epoch(maps: FakeMaps) -> None:
    mine = pool_of(maps)
    mine.refill()
    number_of_group = maps.queues["free_groups"].pop(0)
    maps.group(number_of_group).state = GroupState.DELETED
    mine.release_group(number_of_group, maps.group(number_of_group))
    assert maps.group(number_of_group).epoch == 2
    assert maps.queues["spare_groups"] == [2, number_of_group]


def test_no_free_tables(maps: FakeMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_TABLES", 4)
    mine = pool_of(maps)
    mine.refill()
    assert maps.queues["free_tables"] == [1, 2, 3]
    maps.queues["free_tables"].clear()
    with pytest.raises(LookupError, match="all 4 flow tables are in use"):
        mine.ensure_table(0, maps.group(0), 5)


def test_a_daemon_that_died_while_it_gave_a_table(maps: FakeMaps) -> None:
    mine = pool_of(maps)
    mine.refill()
    group = maps.group(0)
    group.state = GroupState.LIVE
    mine.ensure_table(0, group, 5)
    given, group.table[5] = group.table[5], 0
    pool_of(maps).ensure_table(0, group, 5)
    assert group.table[5] == given
