# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Evidence for probes: which generation got a peer's packets, its path, which socket replied."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import Host, client, received
from udpgrm.kernel import sockopt
from udpgrm.state import maps as state
from udpgrm.state.maps import Maps
from udpgrm.state.probing import Probing
from udpgrm.state.view import Viewer

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)


@pytest.fixture
def maps(host: Host) -> Iterator[Maps]:
    maps = state.open_pinned(host.directory)
    yield maps
    maps.close()


@pytest.fixture
def sockets(host: Host) -> Iterator[list[socket.socket]]:
    """Make a socket in generation 1, which is active, and one in generation 2."""
    sockets = grm.bind(WHERE, 2)
    for sock, generation in zip(sockets, (1, 2)):
        grm.enroll([sock], generation)
    grm.promote(sockets[0], 1)
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.fixture
def probing(maps: Maps, sockets: list[socket.socket]) -> Iterator[Probing]:
    with Probing(maps, next(Viewer(maps).group_ids(WHERE))) as probing:
        yield probing


def test_canary(probing: Probing, sockets: list[socket.socket], host: Host) -> None:
    with client() as probe, client() as user:
        peer = probe.getsockname()
        probing.steer(peer, 2)
        probe.sendto(b"probe", TO)
        user.sendto(b"user", TO)
        assert sorted(received(sockets, 0.5)) == [(0, ("127.0.0.1", port_of(user))), (1, peer)]
        before = probing.evidence(peer)
        assert (before.received_generation, before.path) == (2, "steered")
        assert before.received_socket == sockopt.cookie(sockets[1])
        assert (before.replied_generation, before.packets_in, before.packets_out) == (None, 1, 0)
        sockets[1].sendto(b"answer", peer)
        after = probing.evidence(peer)
        assert (after.replied_generation, after.packets_out) == (2, 1)
        assert after.replied_socket == sockopt.cookie(sockets[1])
    # a canary is neither a new flow nor an error of the group's users
    assert host.counters(WHERE)["rx_new_flow_total"] == 1


def test_paths(probing: Probing, sockets: list[socket.socket]) -> None:
    with client() as probe:
        peer = probe.getsockname()
        probing.watch(peer)
        assert probing.evidence(peer).path is None
        probe.sendto(b"probe", TO)
        assert probing.evidence(peer).path == "new"
        sockets[0].sendto(b"answer", peer)
        grm.promote(sockets[0], 2)
        probe.sendto(b"probe", TO)
        seen = probing.evidence(peer)
        assert (seen.received_generation, seen.path, seen.packets_in) == (1, "existing", 2)
        probing.watch(peer)  # again
        assert probing.evidence(peer).packets_in == 0


def test_nothing_is_left(maps: Maps, sockets: list[socket.socket]) -> None:
    group_id = next(Viewer(maps).group_ids(WHERE))
    with client() as probe, Probing(maps, group_id) as probing:
        probing.steer(probe.getsockname(), 2)
        assert maps.group(group_id).probes == 1
        probing.clear(probe.getsockname())
        assert maps.group(group_id).probes == 0
        probing.steer(probe.getsockname(), 2)
    assert maps.group(group_id).probes == 0


def test_a_generation_without_sockets(probing: Probing) -> None:
    with pytest.raises(LookupError, match="generation 9 has no registered socket"):
        probing.steer(("127.0.0.1", 40000), 9)


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
