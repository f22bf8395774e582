# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the number of deferred messages of a user, and their order in the next daemon."""

from __future__ import annotations

from typing import Any

import pytest

from udpgrm import abi
from udpgrm.abi import MessageFlag
from udpgrm.daemon import deferred
from udpgrm.daemon.deferred import Deferred
from udpgrm.kernel import libbpf

JOIN, REGISTER = MessageFlag.JOIN, MessageFlag.REGISTER


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """Return the content of the map, which remains when a daemon ends."""
    entries: dict[bytes, bytes] = {}
    monkeypatch.setattr(libbpf, "map_items", lambda *_: iter(entries.items()))
    monkeypatch.setattr(libbpf, "map_update", lambda _, key, value: entries.update({key: value}))
    monkeypatch.setattr(libbpf, "map_delete", lambda _, key: entries.pop(key))
    return entries


def make() -> Deferred:
    maps: Any = {"deferred": 3}
    return Deferred(maps)


def message(
    cookie: int, flags: int = REGISTER, uid: int = 1000, generation: int = 0
) -> abi.Message:
    return abi.Message(cookie=cookie, flags=flags, uid=uid, generation=generation)


def test_the_last_of_a_socket_counts(content: dict[bytes, bytes]) -> None:
    one = make()
    for generation in (1, 2):
        one.await_program(message(7, generation=generation))
    [kept] = one.take_unsteered()
    assert kept.generation == 2
    assert one.concerns(0, 0) and not one.concerns(1, 0)
    one.delete(deferred.key_of(kept))
    assert (one.take_unsteered(), content) == ([], {})


def test_what_the_machine_had_no_room_for(content: dict[bytes, bytes]) -> None:
    """Try a failed message again later, also in the next daemon, and count it once."""
    one = make()
    assert [one.await_room(message(7)) for _ in range(3)] == [True, False, False]
    assert one.is_waiting(deferred.key_of(message(7)))
    [kept] = one.take_failed()
    assert (one.retry_due, one.take_failed()) == (None, [])
    assert not one.await_room(kept)  # the same failure still
    assert [item.cookie for item in make().take_unsteered()] == [7]
    one.delete(deferred.key_of(kept))
    assert content == {}
    assert one.await_room(message(7))


def test_the_next_daemon_begins_with_what_came_first(content: dict[bytes, bytes]) -> None:
    for cookie in range(20):
        for flags, generation in ((REGISTER, 2), (JOIN | REGISTER, 1)):
            kept = message(cookie, flags, generation=generation)
            content[deferred.key_of(kept)] = bytes(kept)
    order = [item.generation for item in make().take_unsteered()]
    assert order == [1] * 20 + [2] * 20


def test_quotas(content: dict[bytes, bytes]) -> None:
    one = make()
    cookie = 0
    for uid in range(1, 6):
        with pytest.raises(OverflowError, match="deferred already"):
            while True:
                cookie += 1
                one.add(message(cookie, uid=uid))
    assert len(content) == deferred._OF_USERS
    one.add(message(0, uid=0))
    one.add(message(1, uid=1, generation=5))  # no new one
    for key in list(content)[:10]:
        one.delete(key)
    one.add(message(cookie + 1, uid=9))


def test_a_socket_that_another_user_registers_too(content: dict[bytes, bytes]) -> None:
    """Count its message for the last user, and for none once it was served."""
    kept = make()
    kept.add(message(1, uid=1000))
    kept.add(message(1, uid=2000))
    for cookie in range(2, deferred._PER_USER + 2):
        kept.add(message(cookie, uid=1000))
    kept.delete(deferred.key_of(message(1)))
    for cookie in range(deferred._PER_USER + 2, 2 * deferred._PER_USER + 2):
        kept.add(message(cookie, uid=2000))
    for uid in (1000, 2000):
        with pytest.raises(OverflowError):
            kept.add(message(0, uid=uid))
