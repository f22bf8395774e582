# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Listeners of TCP in groups of their own."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable

import pytest

import udpgrm.client as grm
from testing.host import Host, wait_for
from testing.waiting import PATIENCE_S
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.kernel import sockopt

WHERE = "127.0.0.1:4433/tcp"
TO = ("127.0.0.1", 4433)

Listen = Callable[..., socket.socket]


@pytest.fixture
def listen(host: Host, sockets: list[socket.socket]) -> Listen:
    """Make a listener at the address, enrolled if a generation is given."""

    def make(generation: int | None = None) -> socket.socket:
        sock = bound(sockets)
        sock.listen(16)
        if generation is not None:
            grm.enroll([sock], generation)
        return sock

    return make


def bound(sockets: list[socket.socket], kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sockets.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(TO)
    return sock


def connect(sockets: list[socket.socket]) -> socket.socket:
    sock = socket.create_connection(TO, timeout=PATIENCE_S)
    sockets.append(sock)
    return sock


def accepts(listener: socket.socket, sockets: list[socket.socket], count: int = 30) -> bool:
    """Return whether a listener accepts every one of `count` new connections; close them again."""
    listener.settimeout(PATIENCE_S)
    for _ in range(count):
        with connect(sockets) as client:
            connection, peer = listener.accept()
            connection.close()
            if peer != client.getsockname():
                return False
    return True


def flows(host: Host) -> dict[int, int]:
    return {item["generation"]: item["flows"] for item in host.group(WHERE)["generations"]}


def test_connections_go_to_the_working_generation(
    host: Host, listen: Listen, sockets: list[socket.socket]
) -> None:
    first = listen(1)
    grm.promote(first, 1)
    assert accepts(first, sockets)
    second = listen(2)
    unregistered = listen()
    assert accepts(first, sockets)
    grm.promote(second, 2)
    assert accepts(second, sockets)
    for other in (first, unregistered):
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
    found = json.loads(host.run("doctor", WHERE, "--json").stdout)["sockets"]
    assert sorted(item["steered"] for item in found) == [False, True, True]
    [unsteered] = [item for item in found if not item["steered"]]
    assert [item["code"] for item in unsteered["findings"]] == ["not_registered"]


def test_udp_at_the_address_is_a_group_of_its_own(
    host: Host, listen: Listen, sockets: list[socket.socket]
) -> None:
    datagrams = bound(sockets, socket.SOCK_DGRAM)
    grm.enroll([datagrams], 5)
    grm.promote(datagrams, 5)
    listener = listen(1)
    grm.promote(listener, 1)
    assert grm.working_generation(datagrams) == 5
    assert grm.working_generation(listener) == 1
    groups = {group["address"]: group for group in host.json("list")["groups"]}
    assert groups.keys() == {"127.0.0.1:4433", WHERE}
    assert groups[WHERE]["dissector"]["name"] == "noop"
    assert [group["protocol"] for group in groups.values()] == ["udp", "tcp"]
    assert host.json("probe", WHERE, "--count=5")["received"] == 5


def test_connections_are_flows_of_their_generation(
    host: Host, listen: Listen, sockets: list[socket.socket]
) -> None:
    first = listen(1)
    grm.promote(first, 1)
    old = [connect(sockets) for _ in range(3)]
    accepted = [first.accept()[0] for _ in old[1:]]  # one is not accepted yet
    sockets += accepted
    second = listen(2)
    grm.promote(second, 2)
    connect(sockets)
    # the listener's side is established once the last packet of the handshake is there
    wait_for(lambda: flows(host) == {1: 3, 2: 1}, "its connection")
    old[0].shutdown(socket.SHUT_WR)  # the server has not ended it
    assert flows(host) == {1: 3, 2: 1}
    accepted[0].close()
    wait_for(lambda: flows(host) == {1: 2, 2: 1}, "its end")


def test_a_closing_listeners_queue_goes_to_the_working_generation(
    host: Host, listen: Listen, sockets: list[socket.socket]
) -> None:
    first = listen(1)
    grm.promote(first, 1)
    waiting = [connect(sockets) for _ in range(5)]  # established, not accepted
    second = listen(2)
    grm.promote(second, 2)
    first.close()
    second.settimeout(PATIENCE_S)
    moved = set()
    for _ in waiting:
        connection, peer = second.accept()
        sockets.append(connection)
        moved.add(peer)
    assert moved == {client.getsockname() for client in waiting}


def test_a_socket_that_asks_before_it_listens(host: Host, sockets: list[socket.socket]) -> None:
    sock = bound(sockets)
    grm.set_option(sock, Option.SOCKET_GEN, (3).to_bytes(4, "little"))
    assert grm.socket_generation(sock).index is None
    sock.listen()
    wait_for(lambda: grm.socket_generation(sock).index == 0, "its registration")
    grm.promote(sock, 3)
    assert accepts(sock, sockets, 3)


def test_options_of_another_protocol_are_unknown(
    host: Host, listen: Listen, sockets: list[socket.socket]
) -> None:
    pairs = (
        (listen(1), socket.IPPROTO_UDP),
        (bound(sockets, socket.SOCK_DGRAM), socket.IPPROTO_TCP),
    )
    for sock, level in pairs:
        for option in Option:
            with pytest.raises(OSError) as error:
                sock.setsockopt(level, option, bytes(4))
            assert error.value.errno == errno.ENOPROTOOPT
            with pytest.raises(OSError) as error:
                sock.getsockopt(level, option, 4)
            assert error.value.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP)  # the kernel's own


def test_what_listeners_do_not_have(host: Host, listen: Listen) -> None:
    listener = listen(1)
    flow, noop = (abi.Dissector(type=kind) for kind in (0, abi.DissectorType.NOOP))
    grm.set_option(listener, Option.DISSECTOR, bytes(noop))
    with pytest.raises(PermissionError):
        grm.set_option(listener, Option.DISSECTOR, bytes(flow))
    with pytest.raises(PermissionError):
        grm.assure_flow(listener, ("127.0.0.1", 1))
    with pytest.raises(PermissionError):
        listener.setsockopt(socket.SOL_SOCKET, sockopt.SO_DETACH_REUSEPORT_BPF, 0)


def test_a_daemon_adds_the_map_that_an_earlier_version_lacks(
    bare_host: Host, sockets: list[socket.socket]
) -> None:
    bare_host.start("--persist")
    bare_host.kill()
    (bare_host.directory / "accepted").unlink()
    bare_host.start("--persist")
    sock = bound(sockets)
    sock.listen()
    grm.enroll([sock], 1)
    grm.promote(sock, 1)
    connect(sockets)
    wait_for(lambda: flows(bare_host) == {1: 1}, "its connection")
