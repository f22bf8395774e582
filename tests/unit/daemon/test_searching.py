# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the search for sockets: what it finds, when, and without descriptors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator
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

    def find(self, cookies: Collection[int]) -> list[Holder]:
        return [holder for holder in self.holders if holder.cookie in cookies]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wait_for(self, search: Search) -> None:
        """Let the time be that of the search's next look."""
        assert search.due is not None
        self.now = max(self.now, search.due)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of searches."""
    clock = Clock()
    monkeypatch.setattr(searching, "time", clock)
    return clock


def to_the_end(search: Search, clock: Clock) -> list[Found]:
    found = []
    while search.due is not None:
        clock.wait_for(search)
        found += list(search.resume())
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


def test_a_descriptor_that_is_another_by_now(sock: socket.socket, clock: Clock) -> None:
    """Do not find a socket whose process closed it between the look and the duplicate."""
    host = Host(sock)
    host.holders.append(host.holders[0]._replace(cookie=1))
    search, wanted = Search(host.find), message(1)
    search.add(wanted)
    assert to_the_end(search, clock) == [(wanted, None)]
    assert search.why_unreachable(1) == ""


def test_what_is_not_wanted_any_more(sock: socket.socket) -> None:
    search = Search(Host(sock).find)
    search.add(message(sockopt.cookie(sock)))
    assert [item.cookie for item in search.drop(sockopt.cookie(sock))] == [sockopt.cookie(sock)]
    assert search.due is None


def test_no_free_descriptor(
    sock: socket.socket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search again after a lack of descriptors, which does not mean that the socket was closed."""
    search, wanted = Search(Host(sock).find), message(sockopt.cookie(sock), uid=0)
    search.add(wanted)

    def exhausted(*_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "socket_at", exhausted)
        with pytest.raises(OSError, match="Too many"):
            list(search.resume())
    assert search.has(wanted)
    assert search.due is not None and search.due > clock.now
    assert list(search.resume()) == []
    assert [place is not None for _, place in to_the_end(search, clock)] == [True]


@pytest.mark.parametrize(
    ("error", "is_held"),
    [(errno.EAGAIN, True), (errno.EPERM, False), (errno.EINVAL, False)],
    ids=["hangs", "hidden", "without main thread"],
)
def test_a_process_whose_descriptors_cannot_be_duplicated(
    sock: socket.socket,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    is_held: bool,
) -> None:
    """Do not take a socket for closed that is known to be in a process out of reach."""
    search, wanted = Search(Host(sock).find), message(sockopt.cookie(sock))
    search.add(wanted)

    def unreachable(*_: int) -> int:
        raise Unreachable(error, "why")

    with monkeypatch.context() as patch:
        patch.setattr(pidfd, "socket_at", unreachable)
        assert list(search.resume()) == ([] if is_held else [(wanted, None)])
        assert search.why_unreachable(wanted.cookie) == "why"
    assert search.has(wanted) is is_held
    assert [place is not None for _, place in to_the_end(search, clock)] == [True] * is_held


def test_roots_is_served_at_once(
    sock: socket.socket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve root's socket before what was found with it, however much that is."""
    plain = pidfd.socket_at

    def takes_long(*holder: int) -> Optional[int]:
        clock.now += 1
        return plain(*holder)

    monkeypatch.setattr(pidfd, "socket_at", takes_long)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        search = Search(Host(another, sock).find)
        search.add(message(sockopt.cookie(another)))
        search.add(message(sockopt.cookie(sock), uid=0))
        [(first, _)] = list(search.resume())
        assert first.cookie == sockopt.cookie(sock)
        [(second, _)] = to_the_end(search, clock)
        assert second.cookie == sockopt.cookie(another)


def test_a_living_socket_that_no_process_has(
    sock: socket.socket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search again for such a socket, ever more rarely, until a process has it."""
    host = Host(sock)
    search, wanted = Search(host.find), message(sockopt.cookie(sock))
    search.add(wanted)
    pauses, firsts = [], []
    with monkeypatch.context() as patch:
        patch.setattr(host, "holders", [])
        for _ in range(3):
            clock.wait_for(search)
            assert list(search.resume()) == [(wanted, None)]
            firsts.append(search.retry(wanted))
            assert search.has(wanted) and search.due is not None
            pauses.append(round((search.due - clock.now) / searching._FIRST_PAUSE, 3))
            assert list(search.resume()) == []
    assert (firsts, pauses) == ([True, False, False], [1.0, 2.0, 4.0])
    assert [place is not None for _, place in to_the_end(search, clock)] == [True]
    search.end_pauses(wanted.cookie)
    assert search.retry(wanted)
    assert search.drop(wanted.cookie) == [wanted]
    assert search.due is None
