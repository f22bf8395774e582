# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers that make a connected socket for each peer, before, during and after a promotion."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host, client, inside, received, wait_for
from tests.kernel.connections.acceptor import Acceptor, ask, reuseport
from tests.kernel.sockopts import SOCKET_GEN, get_error, put_error, u32
from udpgrm.restart.groups import Groups
from udpgrm.services.definition import Group
from udpgrm.state.connected import connect_parts

pytestmark = pytest.mark.daemon("shared")

#: More than a generation has array entries.
PEERS = 300
ADDRESSES = [("0.0.0.0", 4433), ("127.0.0.1", 4433), ("::", 4433), ("::1", 4433)]


def form(where: tuple[str, int]) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


class Servers:
    """Instances of a server in the generations 1 and 2."""

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
            arguments = [f"--cgroup={server.cgroup}", f"--gen={generation}"]
            done = self.host.run("enroll", form(self.where), *arguments)
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
    """Return the address that the servers serve."""
    found: tuple[str, int] = request.param
    return found


@pytest.fixture(params=[False, True], ids=["enrolled", "adopted"])
def servers(
    host: Host, where: tuple[str, int], request: pytest.FixtureRequest
) -> Iterator[Servers]:
    """Return the servers, none of them started; stop those that the test started."""
    made = Servers(host, where, request.param)
    yield made
    for server in made.all:
        server.stop()


def test_a_restart_with_a_socket_for_each_peer(servers: Servers, cgroup: Path) -> None:
    """Lose no session to the new instance before its promotion, or from the old one after it."""
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
        # a session that was slow to connect had an entry of the array meanwhile
        wait_for(
            lambda: {item["sockets_alive"] for item in servers.generations().values()} == {1},
            "entries of sessions to be given back",
        )
        assert servers.errors() == {}
        for peer in (*peers, *more):
            peer.sendto(b"bye", servers.target)
        wait_for(lambda: servers.generations()[1]["connected"] == 0, "the sessions to end")
    assert new.process.poll() is None


EXACT = ("127.0.0.1", 4433)
EXACT6 = ("::1", 4433)


def accept(where: tuple[str, int] = EXACT, port: int = 9) -> socket.socket:
    """Return a socket of the group that is connected to a peer."""
    sock = reuseport(where)
    sock.connect((where[0], port))
    return sock


def options(sock: socket.socket) -> tuple[int, int]:
    """Return SO_REUSEPORT and SO_REUSEADDR of a socket."""
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
    )


def test_more_sockets_that_connect_than_a_generation_holds(host: Host) -> None:
    """Free the array entries of sockets that connect after their registration."""
    with contextlib.ExitStack() as stack:
        for where in (EXACT, ("0.0.0.0", 4434)):
            main = stack.enter_context(reuseport(where))
            grm.enroll([main], 1)
            for number in range(PEERS):
                sock = stack.enter_context(reuseport(where))
                grm.enroll([sock], 1)
                sock.connect(("127.0.0.1", 1000 + number))
            last = stack.enter_context(reuseport(where))
            assert grm.enroll([last], 1)[0] < 256
            [item] = host.group(form(where))["generations"]
            assert item["connected"] == PEERS
            wait_for(
                lambda where=where: host.group(form(where))["generations"][0]["sockets_alive"] == 2,
                "the entries to be given back",
            )


def test_a_connect_that_fails(host: Host) -> None:
    """Deliver new flows to the socket as before, and continue steering."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(reuseport(EXACT)) for _ in range(2)]
        grm.enroll(made, 1)
        grm.promote(made[0], 1)
        stray = stack.enter_context(reuseport(EXACT))
        for sock in (made[1], stray):
            with pytest.raises(OSError):
                sock.connect(("203.0.113.1", 9))  # no route
        wait_for(lambda: options(stray) == options(made[1]) == (1, 0), "the options")

        def reached() -> set[int]:
            for _ in range(20):
                with client() as peer:
                    peer.sendto(b"?", EXACT)
            return {position for position, _ in received([*made, stray])}

        wait_for(lambda: reached() == {0, 1}, "both to get new flows")


def test_options_of_connected_sockets_and_of_those_bound_later(host: Host) -> None:
    """Lend SO_REUSEADDR until the daemon has registered the socket, so that no other user binds."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(reuseport(EXACT))
        grm.enroll([first], 1)
        session = stack.enter_context(accept())
        last = stack.enter_context(reuseport(EXACT))
        grm.enroll([last], 2)
        connected = (0, 1) if connect_parts() else (1, 0)  # before Linux 6.13 it needs no change
        assert [options(sock) for sock in (first, session, last)] == [(1, 0), connected, (1, 0)]
        first.close()
        code = """
import os, socket, sys
os.setuid(1234)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", 4433))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert b"Address already in use" in done.stderr


@pytest.mark.parametrize("where", [EXACT, EXACT6], ids=form)
def test_sessions_of_an_instance_whose_listener_has_closed(
    host: Host, where: tuple[str, int]
) -> None:
    """Keep later sockets in the group beside such sessions, so that each promotion takes effect."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(reuseport(where)) for _ in range(2))
        grm.enroll([first], 1)
        stack.enter_context(accept(where))
        grm.enroll([second], 2)
        first.close()
        third = stack.enter_context(reuseport(where))
        grm.enroll([third], 3)
        for generation, expected in ((2, 0), (3, 1)):
            grm.promote(third, generation)
            for _ in range(20):
                with client(third.family) as peer:
                    peer.sendto(b"?", where)
            assert {position for position, _ in received([second, third])} == {expected}


def test_a_socket_that_no_server_enrolls(host: Host) -> None:
    """Take SO_REUSEADDR, with which other users could bind, back from a socket not enrolled."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(reuseport(EXACT))
        grm.enroll([first], 1)
        stack.enter_context(accept())
        stray = stack.enter_context(reuseport(EXACT))
        wait_for(lambda: options(stray) == (1, 0), "SO_REUSEADDR to be taken back")


@pytest.mark.daemon("own")
@pytest.mark.parametrize("adopted", [False, True], ids=["enrolled", "adopted"])
def test_sessions_that_share_by_reuseaddr_alone(host: Host, adopted: bool) -> None:
    """Count sessions that set SO_REUSEADDR alone, as of DTLS servers, as flows without a group."""
    outside = host.cgroup.parent / f"{host.cgroup.name}-outside"
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(reuseaddr(reuseport=True))
        if adopted:  # by a command in another cgroup than the server's
            outside.mkdir()
            stack.callback(outside.rmdir)
            arguments = ["enroll", form(EXACT), f"--cgroup={host.cgroup}", "--gen=1"]
            command = inside(outside, *COMMAND, f"--pin-dir={host.directory}", *arguments)
            assert subprocess.run(command, check=False).returncode == 0
        else:
            grm.enroll([main], 1)
        session = stack.enter_context(reuseaddr(reuseport=False))
        session.connect(("127.0.0.1", 9))
        [item] = host.group(form(EXACT))["generations"]
        assert (item["connected"], item["sockets_alive"]) == (1, 1)
        assert host.group(form(EXACT))["connected_unknown"] == 0
        assert put_error(session, SOCKET_GEN, u32(1)) == errno.EBADF
        assert get_error(session, SOCKET_GEN) == errno.EBADFD
        Groups(host.directory, [Group(form(EXACT))]).refuse_second_groups()


def reuseaddr(reuseport: bool, where: tuple[str, int] = EXACT) -> socket.socket:
    """Return a bound socket with SO_REUSEADDR, and SO_REUSEPORT or not."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuseport))
    sock.bind(where)
    return sock


@pytest.mark.parametrize("shares", [False, True], ids=["reuseaddr", "reuseport"])
@pytest.mark.parametrize(
    ("any_address", "exact"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::", "127.0.0.1"), ("::", "::ffff:127.0.0.1")],
)
def test_sessions_at_the_address_that_the_peer_has_asked(
    host: Host, any_address: str, exact: str, shares: bool
) -> None:
    """Count sessions at an exact address as flows of a server at any address, as ocserv's.

    None of their options changes.
    """
    where = (any_address, 4433)
    with contextlib.ExitStack() as stack:
        grm.enroll([stack.enter_context(reuseaddr(True, where))], 1)
        for port in (9, 10):
            session = stack.enter_context(reuseaddr(shares, (exact, 4433)))
            session.connect((exact, port))
            assert options(session) == (int(shares), 1)
        group = host.group(form(where))
        [item] = group["generations"]
        assert (item["connected"], item["sockets_alive"]) == (2, 1)
        assert group["connected_unknown"] == 0
        Groups(host.directory, [Group(form(where))]).refuse_second_groups()


@pytest.mark.daemon("own")
def test_a_daemon_that_goes_takes_nothing_from_a_server(host: Host) -> None:
    """Leave sockets as they would be without udpgrm when the hooks go."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(reuseport(EXACT))
        grm.enroll([first], 1)
        session = stack.enter_context(accept())
        assert host.kill(signal.SIGTERM) == 0
        assert options(session) == (1, 0)
        stack.enter_context(accept(port=10))
        stack.enter_context(reuseport(EXACT))


@pytest.mark.parametrize("where", [EXACT, ("0.0.0.0", 4433)], ids=form)
def test_a_server_with_sessions_that_is_adopted(bare_host: Host, where: tuple[str, int]) -> None:
    """Count sockets that the server connected before there were hooks, which keep their flows."""
    made = Servers(bare_host, where, adopted=True)
    made.all.append(Acceptor(bare_host.cgroup, "early", where))
    try:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(client()) for _ in range(5)]
            assert set(ask(peers, made.target)) == {"early"}
            bare_host.start()
            arguments = [f"--cgroup={made.all[0].cgroup}", "--gen=0"]
            assert bare_host.run("enroll", form(where), *arguments).returncode == 0
            assert made.generations()[0]["connected"] == 5
            made.start(1)
            late = [stack.enter_context(client()) for _ in range(20)]
            assert set(ask([*peers, *late], made.target)) == {"early"}
            assert made.generations()[0]["connected"] == 25
    finally:
        for server in made.all:
            server.stop()
