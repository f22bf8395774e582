# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""5,000 connected sockets in each of two generations, while new flows come all the time."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from testing.host import client
from testing.waiting import PATIENCE_S, wait_for
from tests.kernel.connections.acceptor import Acceptor, ask
from tests.kernel.connections.test_accepting import Servers, servers, where

__all__ = ["servers", "where"]

PEERS = 5000
#: Between two new flows: there are 26,000 ports for the flows and peers of a test.
_PAUSE_S = 0.005


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Raise the limit of descriptors for the sockets of peers; servers raise their own."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] > 2 * PEERS + 500, f"ulimit -n is {before[1]}, {2 * PEERS + 500} are needed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@dataclass(frozen=True)
class Answer:
    """A new flow: when it was begun and answered, and by which server (None: not at all)."""

    begun: float
    ended: float
    server: str | None


class NewFlows:
    """A thread that begins one new flow after another, each of two packets."""

    def __init__(self, servers: Servers) -> None:
        self.answers: list[Answer] = []
        self._servers = servers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> NewFlows:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            begun, server = time.monotonic(), None
            with client(self._servers.family) as peer, contextlib.suppress(TimeoutError):
                [server] = ask([peer], self._servers.target)
                peer.sendto(b"bye", self._servers.target)
            self.answers.append(Answer(begun, time.monotonic(), server))

    def await_more(self, count: int) -> None:
        """Wait until so many more flows were answered."""
        wanted = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= wanted, f"{count} new flows")


def listed(port: int) -> Counter[int]:
    """Return how many connected sockets of the port each process has, as ss(8) shows them."""
    command = ["ss", "-u", "-n", "-H", "-p", "state", "established", "sport", "=", f":{port}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    fields = shown.stdout.replace(")", ",").split(",")
    return Counter(int(word[4:]) for word in fields if word.startswith("pid="))


def compare(made: Servers, *servers: Acceptor) -> None:
    """Compare the counts of generations 1, 2, ...

    with the sockets that ss lists of their servers.
    """

    def difference() -> dict[int, tuple[int, int]]:
        by_process, counted = listed(made.where[1]), made.generations()
        both = {
            number: (counted[number]["connected"], by_process[server.process.pid])
            for number, server in enumerate(servers, 1)
        }
        return {number: pair for number, pair in both.items() if pair[0] != pair[1]}

    # a flow's last packet may not have been read yet
    wait_for(lambda: not difference(), f"the counts to agree: {difference()}", pause=0.2)


def test_thousands_of_connected_sockets(servers: Servers) -> None:
    old = servers.start(1)
    servers.promote(1)
    with contextlib.ExitStack() as stack:

        def connect_peers() -> tuple[list[str], list[socket.socket]]:
            peers = [stack.enter_context(client(servers.family)) for _ in range(PEERS)]
            return ask(peers, servers.target), peers

        with NewFlows(servers) as flows:
            flows.await_more(20)
            answers, first = connect_peers()
            assert set(answers) == {"server1"}
            new = servers.start(2)
            flows.await_more(200)
            assert set(ask(first[::50], servers.target)) == {"server1"}
            before = time.monotonic()
            servers.promote(2)
            after = time.monotonic()
            flows.await_more(200)
            answers, second = connect_peers()
            assert set(answers) == {"server2"}
            assert set(ask(first, servers.target)) == {"server1"}
            assert set(ask(second, servers.target)) == {"server2"}
        compare(servers, old, new)
        found = servers.generations()
        assert [found[number]["connected"] for number in (1, 2)] == [PEERS, PEERS]
        assert servers.errors() == {}
        # entries of the array are for unconnected sockets
        assert {item["sockets_alive"] for item in found.values()} == {1}
    assert {answer.server for answer in flows.answers if answer.ended < before} == {"server1"}
    assert {answer.server for answer in flows.answers if answer.begun > after} == {"server2"}
    assert {answer.server for answer in flows.answers} == {"server1", "server2"}
    for server in (old, new):
        server.stop()
        servers.all.remove(server)
    print(
        f"\n{servers.where[0]}, {'adopted' if servers.adopted else 'enrolled'}: {2 * PEERS} "
        f"connected sockets, {len(flows.answers)} new flows beside them; "
        f"{old.strays + new.strays} packets came to a socket that was about to be connected"
    )
