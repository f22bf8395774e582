# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers that make a connected socket for each peer, before, during and after a promotion."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.acceptor import Acceptor, ask
from tests.kernel.support import Host, client, wait_for

#: More than a generation has array entries.
PEERS = 300
ADDRESSES = [("0.0.0.0", 4433), ("::", 4433), ("::1", 4433)]


def form(where: tuple[str, int]) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


class Servers:
    """Two instances of a server, in the generations 1 and 2."""

    def __init__(self, host: Host, where: tuple[str, int], adopted: bool) -> None:
        self.host, self.where, self.adopted = host, where, adopted
        self.all: list[Acceptor] = []
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        self.target = ("::1" if family == socket.AF_INET6 else "127.0.0.1", where[1])
        self.family = family

    def start(self, generation: int) -> Acceptor:
        """Start an instance; it is not promoted."""
        own = None if self.adopted else generation
        server = Acceptor(self.host.cgroup, f"server{generation}", self.where, own)
        self.all.append(server)
        if self.adopted:
            words = [f"--cgroup={server.cgroup}", f"--gen={generation}"]
            done = self.host.run("enroll", form(self.where), *words)
            assert done.returncode == 0, done.stderr
        return server

    def promote(self, generation: int) -> None:
        done = self.host.run("working-gen", form(self.where), str(generation))
        assert done.returncode == 0, done.stderr

    def generations(self) -> dict[int, dict[str, Any]]:
        group = self.host.group(form(self.where))
        return {item["generation"]: item for item in group["generations"]}

    def errors(self) -> dict[str, int]:
        """Counters of packets that went wrong."""
        found = self.host.counters(form(self.where))
        return {name: count for name, count in found.items() if "error" in name}


@pytest.fixture(params=ADDRESSES, ids=form)
def where(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Where they serve."""
    found: tuple[str, int] = request.param
    return found


@pytest.fixture(params=[False, True], ids=["enrolled", "adopted"])
def servers(
    host: Host, where: tuple[str, int], request: pytest.FixtureRequest
) -> Iterator[Servers]:
    """No server yet."""
    made = Servers(host, where, request.param)
    yield made
    for server in made.all:
        server.stop()


def test_a_restart_with_a_socket_for_each_peer(servers: Servers, cgroup: Path) -> None:
    """None is lost to the new instance before its promotion, or from the old one after it."""
    servers.start(1)
    servers.promote(1)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(client(servers.family)) for _ in range(PEERS)]
        assert set(ask(peers, servers.target)) == {"server1"}
        new = servers.start(2)
        more = [stack.enter_context(client(servers.family)) for _ in range(40)]
        assert set(ask([*peers, *more], servers.target)) == {"server1"}
        servers.promote(2)
        late = [stack.enter_context(client(servers.family)) for _ in range(40)]
        assert set(ask([*peers, *more], servers.target)) == {"server1"}
        assert set(ask([*late, *late], servers.target)) == {"server2"}
        found = servers.generations()
        counted = {number: item["connected"] for number, item in found.items()}
        assert counted == {1: PEERS + 40, 2: 40}
        assert {item["sockets_alive"] for item in found.values()} == {1}
        assert servers.errors() == {}
        for peer in (*peers, *more):
            peer.sendto(b"bye", servers.target)
        wait_for(lambda: servers.generations()[1]["connected"] == 0, "the sessions to end")
    assert new.process.poll() is None
