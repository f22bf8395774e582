# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Root is served at once, users in turns; and what a killed daemon leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import pytest

from udpgrm import abi
from udpgrm.daemon import inbox
from udpgrm.daemon.inbox import Inbox, Item
from udpgrm.state import layout


class FakeRing:
    """The kernel's ring buffer: records by their ends."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.consumed = 0

    def send(self, uid: int, cookie: int) -> None:
        self.records.append(bytes(abi.Message(uid=uid, cookie=cookie)))


class FakeReader:
    """A daemon's view of one."""

    def __init__(self, ring: FakeRing, _: int) -> None:
        self.ring = ring
        self.position = ring.consumed

    def ahead(self) -> Iterator[tuple[int, Optional[bytes]]]:
        while self.position < len(self.ring.records):
            self.position += 1
            yield self.position, self.ring.records[self.position - 1]

    def consume(self, position: int) -> None:
        assert position > self.ring.consumed
        self.ring.consumed = position


class Maps(dict[str, Any]):
    """The maps of an inbox: two rings, and records of users."""

    def __init__(self) -> None:
        super().__init__({name: FakeRing() for name in layout.RINGS})
        self.users = [abi.User() for _ in range(abi.USERS)]

    def user(self, number: int) -> abi.User:
        return self.users[number]

    def send(self, uid: int, *cookies: int) -> None:
        for cookie in cookies:
            self["messages" if uid else "root_messages"].send(uid, cookie)
            self.user(abi.user_of(uid)).messages_sent += 1

    def outstanding(self, uid: int) -> int:
        user = self.user(abi.user_of(uid))
        return int(user.messages_sent - user.messages_served)


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> Maps:
    monkeypatch.setattr(inbox, "RingBuffer", FakeReader)
    return Maps()


def make(maps: Maps) -> Inbox:
    anything: Any = maps
    return Inbox(anything)


def serve(mine: Inbox, most: int = 99) -> list[int]:
    """Serve so many messages; their cookies."""
    served: list[int] = []
    while len(served) < most and (item := mine.next()) is not None:
        served.append(int(item.message.cookie))
        mine.done(item)
    return served


def test_users_take_turns(maps: Maps) -> None:
    mine = make(maps)
    maps.send(1, 11, 12, 13, 14)
    maps.send(2, 21, 22)
    maps.send(3, 31)
    assert serve(mine) == [11, 21, 31, 12, 22, 13, 14]
    assert maps["messages"].consumed == 7
    assert mine.is_empty


def test_one_that_comes_late_waits_for_one_of_each_other(maps: Maps) -> None:
    mine = make(maps)
    for uid in range(1, 7):
        maps.send(uid, *range(100 * uid, 100 * uid + 90))
    assert len(serve(mine, 200)) == 200
    maps.send(9, 9)
    assert 9 in serve(mine, 7)


def test_root_is_served_before_any_user(maps: Maps) -> None:
    mine = make(maps)
    maps.send(1, *range(10, 20))
    assert serve(mine, 2) == [10, 11]
    maps.send(0, 1, 2)
    assert serve(mine, 3) == [1, 2, 12]
    maps.send(0, 3)
    item = mine.roots()
    assert item is not None and item.message.cookie == 3
    mine.done(item)
    assert mine.roots() is None  # users' are left for later
    assert serve(mine, 1) == [13]
    assert maps["root_messages"].consumed == 3


def test_what_was_not_served_is_for_the_next_daemon(maps: Maps) -> None:
    mine = make(maps)
    maps.send(1, 11, 12, 13)
    maps.send(2, 21)
    assert serve(mine, 2) == [11, 21]
    assert maps["messages"].consumed == 1  # 12 comes before 21
    assert (maps.outstanding(1), maps.outstanding(2)) == (2, 0)
    after = make(maps)
    assert (maps.outstanding(1), maps.outstanding(2)) == (2, 1)
    assert serve(after) == [12, 21, 13]
    assert (maps.outstanding(1), maps.outstanding(2)) == (0, 0)


def test_one_being_served_is_for_the_next_daemon_too(maps: Maps) -> None:
    maps.send(1, 11)
    assert make(maps).next() is not None
    assert serve(make(maps)) == [11]


def test_a_daemon_that_was_killed_lost_count(maps: Maps) -> None:
    maps.user(abi.user_of(5)).messages_sent = 2000  # served, and not counted
    maps.send(5, 51)
    make(maps)
    assert maps.outstanding(5) == 1


def test_deferred_messages_take_turns_with_new_ones(maps: Maps) -> None:
    mine = make(maps)
    mine.add([abi.Message(uid=1, cookie=cookie) for cookie in (11, 12)])
    mine.add([abi.Message(uid=0, cookie=1)])
    maps.send(2, 21)
    assert serve(mine) == [1, 11, 21, 12]
    assert maps.outstanding(1) == 0  # they have no room in a ring any more


def test_what_is_no_message_is_consumed(maps: Maps) -> None:
    maps["messages"].records += [b"short", b""]
    maps.send(1, 11)
    assert serve(make(maps)) == [11]
    assert maps["messages"].consumed == 3


def test_an_item_without_a_ring_gives_nothing_back(maps: Maps) -> None:
    make(maps).done(Item(abi.Message(uid=1)))
    assert maps.outstanding(1) == 0
