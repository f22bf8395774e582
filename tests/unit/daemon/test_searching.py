# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Which sockets a search finds, when, and what becomes of it without descriptors."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Optional

import pytest

from udpgrm import abi
from udpgrm.daemon import searching
from udpgrm.daemon.searching import Search
from udpgrm.kernel import pidfd, sockopt

Found = tuple[abi.Message, Optional[tuple[int, int]]]


def message(cookie: int, uid: int = 65534, flags: int = 1) -> abi.Message:
    return abi.Message(cookie=cookie, uid=uid, flags=flags)


def to_the_end(search: Search) -> list[Found]:
    found = []
    while search.due is not None:
        found += list(search.resume())
        time.sleep(0.005)
    return found


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield made


def test_a_socket_of_this_process(sock: socket.socket) -> None:
    search = Search()
    there, gone = message(sockopt.cookie(sock)), message(1)
    search.add(there)
    search.add(message(sockopt.cookie(sock), flags=2))
    search.add(gone)
    found = {}
    while search.due is not None:
        for asked, place in search.resume():
            found[asked.cookie, asked.flags] = None if place is None else place[0]
            if place is not None:
                assert os.fstat(place[1]).st_ino == os.fstat(sock.fileno()).st_ino
    own = os.getpid()
    assert found == {(there.cookie, 1): own, (there.cookie, 2): own, (1, 1): None}
    assert not search.has(there)


def test_what_is_not_wanted_any_more(sock: socket.socket) -> None:
    search = Search()
    search.add(message(sockopt.cookie(sock)))
    assert [item.cookie for item in search.drop(sockopt.cookie(sock))] == [sockopt.cookie(sock)]
    assert search.due is None


def test_no_free_descriptor(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """That does not mean that the socket was closed."""
    monkeypatch.setattr(searching, "_UNTIL_THERE_MAY_BE_ONE", 0.1)
    search, wanted = Search(), message(sockopt.cookie(sock), uid=0)
    search.add(wanted)

    def exhausted() -> list[int]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "all_pids", exhausted)
        with pytest.raises(OSError, match="Too many"):
            list(search.resume())
    assert search.has(wanted)
    assert search.due is not None and search.due > time.monotonic()
    assert list(search.resume()) == []
    assert [place is not None for _, place in to_the_end(search)] == [True]


def test_roots_is_looked_for_at_once(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after what is looked for already, however much there is to look at."""
    monkeypatch.setattr(searching, "_AT_A_TIME", 0.0)
    search = Search()
    search.add(message(1))
    assert list(search.resume()) == []
    pieces = 0
    search.add(message(sockopt.cookie(sock), uid=0))
    while not list(search.resume()):
        pieces += 1
    total = sum(
        1
        for pid in pidfd.all_pids()
        if os.stat(f"/proc/{pid}").st_uid == 0
        for _ in os.listdir(f"/proc/{pid}/fd")
    )
    assert pieces <= total + 10
    assert search.has(message(1))


def test_a_living_socket_that_no_process_has(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is searched for again, ever more rarely, until a process has it."""
    search, wanted = Search(), message(sockopt.cookie(sock))
    search.add(wanted)
    pauses, firsts = [], []
    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "all_pids", list)
        for _ in range(3):
            while not (found := list(search.resume())):
                time.sleep(0.005)
            assert found == [(wanted, None)]
            asked_at = time.monotonic()
            firsts.append(search.retry(wanted))
            assert search.has(wanted) and search.due is not None
            pauses.append(round((search.due - asked_at) / searching._FIRST_PAUSE, 1))
            assert list(search.resume()) == []
    assert (firsts, pauses) == ([True, False, False], [1.0, 2.0, 4.0])
    assert [place is not None for _, place in to_the_end(search)] == [True]
    search.end_pauses(wanted.cookie)
    assert search.retry(wanted)
    assert search.drop(wanted.cookie) == [wanted]
    assert search.due is None
