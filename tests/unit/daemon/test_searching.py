# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Which sockets a search finds, when, and what becomes of it without descriptors."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Container, Iterator
from typing import Optional

import pytest

from udpgrm import abi
from udpgrm.daemon import searching
from udpgrm.daemon.searching import Search
from udpgrm.kernel import pidfd, sockopt
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.state.holders import Holder

Found = tuple[abi.Message, Optional[tuple[int, int]]]


def message(cookie: int, uid: int = 65534, flags: int = 1) -> abi.Message:
    return abi.Message(cookie=cookie, uid=uid, flags=flags)


class Host:
    """Descriptors that processes have."""

    def __init__(self, *sockets: socket.socket) -> None:
        self.holders = [
            Holder(os.getpid(), sock.fileno(), sockopt.cookie(sock)) for sock in sockets
        ]

    def find(self, cookies: Container[int]) -> list[Holder]:
        return [holder for holder in self.holders if holder.cookie in cookies]


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
    search = Search(Host(sock).find)
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


def test_a_descriptor_that_is_another_by_now(sock: socket.socket) -> None:
    """Between the look and the duplicate, its process closed it."""
    host = Host(sock)
    host.holders.append(host.holders[0]._replace(cookie=1))
    search, wanted = Search(host.find), message(1)
    search.add(wanted)
    assert to_the_end(search) == [(wanted, None)]
    assert search.why_unreachable(1) == ""


def test_what_is_not_wanted_any_more(sock: socket.socket) -> None:
    search = Search(Host(sock).find)
    search.add(message(sockopt.cookie(sock)))
    assert [item.cookie for item in search.drop(sockopt.cookie(sock))] == [sockopt.cookie(sock)]
    assert search.due is None


def test_no_free_descriptor(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """That does not mean that the socket was closed."""
    monkeypatch.setattr(searching, "_UNTIL_THERE_MAY_BE_ONE", 0.1)
    search, wanted = Search(Host(sock).find), message(sockopt.cookie(sock), uid=0)
    search.add(wanted)

    def exhausted(*_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "socket_at", exhausted)
        with pytest.raises(OSError, match="Too many"):
            list(search.resume())
    assert search.has(wanted)
    assert search.due is not None and search.due > time.monotonic()
    assert list(search.resume()) == []
    assert [place is not None for _, place in to_the_end(search)] == [True]


@pytest.mark.parametrize(
    ("error", "is_held"),
    [(errno.EAGAIN, True), (errno.EPERM, False), (errno.EINVAL, False)],
    ids=["hangs", "hidden", "without main thread"],
)
def test_a_process_whose_descriptors_cannot_be_duplicated(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, error: int, is_held: bool
) -> None:
    """It has the socket, which is known: it is not closed."""
    monkeypatch.setattr(searching, "_UNTIL_THERE_MAY_BE_ONE", 0.1)
    search, wanted = Search(Host(sock).find), message(sockopt.cookie(sock))
    search.add(wanted)

    def unreachable(*_: int) -> int:
        raise Unreachable(error, "why")

    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "socket_at", unreachable)
        assert list(search.resume()) == ([] if is_held else [(wanted, None)])
        assert search.why_unreachable(wanted.cookie) == "why"
    assert search.has(wanted) is is_held
    assert [place is not None for _, place in to_the_end(search)] == [True] * is_held


def test_roots_is_served_at_once(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after what was found with it, however much that is."""
    monkeypatch.setattr(searching, "_AT_A_TIME", 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        search = Search(Host(another, sock).find)
        search.add(message(sockopt.cookie(another)))
        search.add(message(sockopt.cookie(sock), uid=0))
        [(first, _)] = list(search.resume())
        assert first.cookie == sockopt.cookie(sock)
        [(second, _)] = to_the_end(search)
        assert second.cookie == sockopt.cookie(another)


def test_a_living_socket_that_no_process_has(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is searched for again, ever more rarely, until a process has it."""
    host = Host(sock)
    search, wanted = Search(host.find), message(sockopt.cookie(sock))
    search.add(wanted)
    pauses, firsts = [], []
    with monkeypatch.context() as patch:
        patch.setattr(host, "holders", [])
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
