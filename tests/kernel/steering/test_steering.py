# SPDX-License-Identifier: Apache-2.0
"""FLOW and NOOP packet by packet, with all counters (reference, section 3)."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import (
    ROOT,
    Host,
    answer,
    client,
    close,
    plain_socket,
    received,
    wait_for,
    wait_for_index,
)
from udpgrm import abi
from udpgrm.abi import DissectorType, Option
from udpgrm.kernel import netns
from udpgrm.state import maps as state
from udpgrm.state.address import of_key

pytestmark = pytest.mark.daemon("shared")

V4, V6 = "127.0.0.1:4433", "[::1]:4433"
#: That the hash gives all of them to one of two sockets has the probability 2^-39.
FLOWS = 40


def family_of(address: str) -> int:
    return socket.AF_INET6 if address.startswith("[") else socket.AF_INET


class Fleet:
    """Sockets by generation, and clients, closed after the test."""

    def __init__(self) -> None:
        self.all: list[socket.socket] = []

    def generation(
        self, address: str, number: int, count: int = 1, timeout: int = 0
    ) -> list[socket.socket]:
        sockets = grm.bind(address, count, timeout)
        self.all += sockets
        grm.enroll(sockets, number)
        return sockets

    def clients(self, count: int, family: int = socket.AF_INET) -> list[socket.socket]:
        made = [client(family) for _ in range(count)]
        self.all += made
        return made


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    for sock in fleet.all:
        sock.close()


def target(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@pytest.mark.parametrize("address", [V4, V6])
def test_old_flows_stay_and_new_ones_move(host: Host, fleet: Fleet, address: str) -> None:
    old = fleet.generation(address, 1, count=2)
    grm.promote(old[0], 1)
    early = fleet.clients(FLOWS, family_of(address))
    for sock in early:
        sock.sendto(b"hi", target(address))
    first = {peer: position for position, peer in serve(old, FLOWS)}
    assert set(first.values()) == {0, 1}, "the hash never spread the flows over 2 sockets"
    assert host.counters(address) == {
        "rx_processed_total": FLOWS,
        "rx_dissected_ok_total": FLOWS,
        "rx_flow_new_unseen": FLOWS,
        "rx_new_flow_total": FLOWS,
        "rx_new_flow_working_gen_dispatch_ok": FLOWS,
        "tx_total": FLOWS,
        "tx_flow_create_ok": FLOWS,
    }

    new = fleet.generation(address, 2, count=2)
    for sock in early:
        sock.sendto(b"hi", target(address))
    assert dict(flip(serve(old, FLOWS))) == first
    assert received(new) == [], "a generation that does not work yet got a packet"

    grm.promote(new[0], 2)
    late = fleet.clients(FLOWS, family_of(address))
    for sock in early + late:
        sock.sendto(b"hi", target(address))
    assert dict(flip(serve(old, FLOWS))) == first
    assert len(serve(new, FLOWS)) == FLOWS
    assert received(old + new) == []
    counters = host.counters(address)
    assert counters["rx_flow_ok"] == 2 * FLOWS
    assert counters["tx_flow_update_ok"] == 2 * FLOWS
    assert counters["tx_flow_create_ok"] == 2 * FLOWS
    assert counters["rx_new_flow_working_gen_dispatch_ok"] == 2 * FLOWS
    assert "rx_new_flow_working_gen_dispatch_error" not in counters

    generations = {item["generation"]: item for item in host.group(address)["generations"]}
    assert {number: item["flows"] for number, item in generations.items()} == {1: FLOWS, 2: FLOWS}
    assert {number: item["packets_in"] for number, item in generations.items()} == {
        1: 3 * FLOWS,
        2: FLOWS,
    }
    assert {number: item["packets_out"] for number, item in generations.items()} == {
        1: 3 * FLOWS,
        2: FLOWS,
    }
    assert [generations[1]["working"], generations[2]["working"]] == [False, True]


def serve(sockets: list[socket.socket], count: int) -> list[tuple[int, tuple[str, int]]]:
    """Answer `count` packets: (position of the socket, peer) of each."""
    served = []
    for position, peer in wait_for(lambda: received(sockets), "packets"):
        sockets[position].sendto(b"yo", peer)
        served.append((position, peer))
    assert len(served) == count
    return served


def flip(pairs: list[tuple[int, tuple[str, int]]]) -> list[tuple[tuple[str, int], int]]:
    return [(peer, position) for position, peer in pairs]


def test_dual_stack(host: Host, fleet: Fleet) -> None:
    """Keep flows of both families at a socket bound to ::; IPv4 ones count as AF_INET."""
    old = fleet.generation("[::]:4433", 1)
    grm.promote(old[0], 1)
    four, six = fleet.clients(1)[0], fleet.clients(1, socket.AF_INET6)[0]
    four.sendto(b"hi", ("127.0.0.1", 4433))
    six.sendto(b"hi", ("::1", 4433))
    answer(old, 2)
    new = fleet.generation("[::]:4433", 2)
    grm.promote(new[0], 2)
    four.sendto(b"hi", ("127.0.0.1", 4433))
    six.sendto(b"hi", ("::1", 4433))
    assert answer(old, 2) == [0, 0]
    assert received(new) == []
    groups = host.json("flows", "[::]:4433")["groups"]
    # those without a generation are an earlier test's, in another network namespace
    flows = [flow for group in groups for flow in group["flows"] if flow["generation"] is not None]
    expected = {f"127.0.0.1:{four.getsockname()[1]}", f"[::1]:{six.getsockname()[1]}"}
    assert {flow["remote"] for flow in flows} == expected
    with pytest.raises(FileExistsError):
        grm.assure_flow(new[0], ("127.0.0.1", four.getsockname()[1]))


def test_receiving_refreshes_nothing_and_flows_expire(host: Host, fleet: Fleet) -> None:
    old = fleet.generation(V4, 1, timeout=5)
    new = fleet.generation(V4, 2, timeout=5)
    grm.promote(old[0], 1)
    peer = fleet.clients(1)[0]
    peer.sendto(b"hi", target(V4))
    refreshed = time.monotonic()
    answer(old, 1)
    grm.promote(new[0], 2)
    looked = 0
    while True:
        peer.sendto(b"hi", target(V4))
        [position] = [position for position, _ in received([*old, *new])]
        if time.monotonic() > refreshed + 5:
            break  # the flow may have expired
        assert position == 0
        looked += 1
        time.sleep(0.1)
    assert looked > 0
    time.sleep(0.5)  # now it has, but for what was received
    before = host.counters(V4)
    peer.sendto(b"hi", target(V4))
    assert answer(new, 1) == [0]
    after = host.counters(V4)
    gained = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: value for name, value in gained.items() if value} == {
        "rx_processed_total": 1,
        "rx_dissected_ok_total": 1,
        "rx_flow_new_unseen": 1,
        "rx_flow_new_had_expired": 1,
        "rx_new_flow_total": 1,
        "rx_new_flow_working_gen_dispatch_ok": 1,
        "tx_total": 1,
        "tx_flow_create_ok": 1,
        "tx_flow_create_from_expired_ok": 1,
    }
    peer.sendto(b"hi", target(V4))
    assert answer(new, 1) == [0]


def test_sending_keeps_a_flow_alive(host: Host, fleet: Fleet) -> None:
    old, new = (fleet.generation(V4, number, timeout=5) for number in (1, 2))
    grm.promote(new[0], 2)
    for peer in fleet.clients(20):  # until one was never silent for 5 s, on a busy machine
        began = refreshed = time.monotonic()
        grm.assure_flow(old[0], peer.getsockname())
        while refreshed < began + 6:  # longer than a flow lives that is not used
            time.sleep(0.5)
            asked = time.monotonic()
            peer.sendto(b"hi", target(V4))
            position = answer([*old, *new], 1)
            if time.monotonic() >= refreshed + 5:
                break
            assert position == [0]
            refreshed = asked
        else:
            return
    raise AssertionError("each was silent for too long")


def test_live_entry_is_never_moved(host: Host, fleet: Fleet) -> None:
    one, two = fleet.generation(V4, 1, count=2)
    grm.promote(one, 1)
    peer = fleet.clients(1)[0]
    where = peer.getsockname()
    one.sendto(b"mine", where)
    two.sendto(b"no, mine", where)
    other = fleet.generation(V4, 2)
    other[0].sendto(b"no, mine", where)
    with pytest.raises(FileExistsError):
        grm.assure_flow(other[0], where)
    grm.assure_flow(one, where)
    counters = host.counters(V4)
    assert counters["tx_flow_create_ok"] == 1
    assert counters["tx_flow_update_conflict"] == 3  # assuring a flow counts as a send
    grm.promote(other[0], 2)
    peer.sendto(b"hi", target(V4))
    assert received([one, two, *other]) == [(0, where)]


def test_assured_flow_is_steered(host: Host, fleet: Fleet) -> None:
    old = fleet.generation(V4, 1)
    peer = fleet.clients(1)[0]
    grm.assure_flow(old[0], peer.getsockname())
    new = fleet.generation(V4, 2)
    grm.promote(new[0], 2)
    peer.sendto(b"hi", target(V4))
    assert received(old + new) == [(0, peer.getsockname())]
    assert host.counters(V4)["rx_flow_ok"] == 1


def test_assured_flow_of_a_link_local_peer(host: Host, fleet: Fleet) -> None:
    """Accept the device that recvfrom(2) names in the peer's address."""
    [sock] = fleet.generation(V6, 1)
    grm.assure_flow(sock, ("fe80::1%lo", 1234))
    [flow] = host.json("flows", V6)["groups"][0]["flows"]
    assert flow["remote"] == "[fe80::1]:1234"


def test_flow_made_before_the_daemon_entered_the_socket(own_host: Host, fleet: Fleet) -> None:
    sock = grm.bind(V4)[0]
    fleet.all.append(sock)
    peer = fleet.clients(1)[0]
    with own_host.stopped():
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, "little"))
        grm.assure_flow(sock, peer.getsockname())
    wait_for_index(sock)
    new = fleet.generation(V4, 2)
    grm.promote(new[0], 2)
    peer.sendto(b"hi", target(V4))
    assert received([sock, *new]) == [(0, peer.getsockname())]


def test_closed_socket(host: Host, fleet: Fleet) -> None:
    """Give its flows to the working generation, which may take them over."""
    old = fleet.generation(V4, 1)
    grm.promote(old[0], 1)
    peer = fleet.clients(1)[0]
    peer.sendto(b"hi", target(V4))
    answer(old, 1)
    new = fleet.generation(V4, 2)
    grm.promote(new[0], 2)
    close(old[0])
    peer.sendto(b"hi", target(V4))
    answer(new, 1)
    counters = host.counters(V4)
    assert counters["rx_flow_other_error"] == 1
    assert counters["rx_new_flow_working_gen_dispatch_ok"] == 2
    assert counters["tx_flow_create_ok"] == 2
    peer.sendto(b"hi", target(V4))
    answer(new, 1)
    assert host.counters(V4)["rx_flow_ok"] == 1


def test_closed_sockets_of_the_working_generation_are_passed_by(host: Host, fleet: Fleet) -> None:
    sockets = fleet.generation(V4, 1, count=4)
    grm.promote(sockets[0], 1)
    close(*sockets[:3])
    for sock in fleet.clients(30):
        sock.sendto(b"hi", target(V4))
    assert len(received(sockets[3:])) == 30
    assert host.counters(V4)["rx_new_flow_working_gen_dispatch_ok"] == 30


def test_working_generation_without_sockets(host: Host, fleet: Fleet) -> None:
    """Deliver packets to another generation that lives, and count the error."""
    sockets = fleet.generation(V4, 1)
    grm.promote(sockets[0], 5)
    for sock in fleet.clients(3):
        sock.sendto(b"hi", target(V4))
    assert len(received(sockets)) == 3
    counters = host.counters(V4)
    assert counters["rx_new_flow_total"] == 3
    assert counters["rx_new_flow_working_gen_dispatch_error"] == 3
    assert "rx_new_flow_working_gen_dispatch_ok" not in counters


@pytest.mark.parametrize("address", [V4, V6])
def test_noop(host: Host, fleet: Fleet, address: str) -> None:
    """Treat every packet as a new flow; a send makes none."""

    def generation(number: int) -> socket.socket:
        sock = plain_socket(family_of(address))
        fleet.all.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(target(address))
        value = bytes(abi.Dissector(type=DissectorType.NOOP))
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, value)
        grm.enroll([sock], number)
        return sock

    old = generation(1)
    grm.promote(old, 1)
    peer = fleet.clients(1, family_of(address))[0]
    peer.sendto(b"hi", target(address))
    answer([old], 1)
    new = generation(2)
    grm.promote(new, 2)
    peer.sendto(b"hi", target(address))
    answer([new], 1)
    assert host.counters(address) == {
        "rx_processed_total": 2,
        "rx_dissected_ok_total": 2,
        "rx_flow_new_unseen": 2,
        "rx_new_flow_total": 2,
        "rx_new_flow_working_gen_dispatch_ok": 2,
    }
    assert [item["packets_out"] for item in host.group(address)["generations"]] == [1, 1]
    assert [item["flows"] for item in host.group(address)["generations"]] == [None, None]


def test_many_generations_overlap(host: Host, fleet: Fleet) -> None:
    """Keep the flows of 12 generations, whose slots pass the end of the 32."""
    peers, instances = fleet.clients(12), []
    for number in range(25, 37):  # passes the end of the 32 slots
        instances += fleet.generation(V4, number)
        grm.promote(instances[-1], number)
        peers[number - 25].sendto(b"hi", target(V4))
        answer(instances[-1:], 1)
    for peer in peers:
        peer.sendto(b"hi", target(V4))
    got = received(instances)
    assert sorted(got) == sorted(
        (position, ("127.0.0.1", peer.getsockname()[1])) for position, peer in enumerate(peers)
    )


def test_moving_a_socket_keeps_its_flows(host: Host, fleet: Fleet) -> None:
    sock = fleet.generation(V4, 1)[0]
    grm.promote(sock, 1)
    peer = fleet.clients(1)[0]
    peer.sendto(b"hi", target(V4))
    answer([sock], 1)
    assert grm.enroll([sock], 2) == [0]
    new = fleet.generation(V4, 3)
    grm.promote(new[0], 3)
    peer.sendto(b"hi", target(V4))
    assert answer([sock, *new], 1) == [0]
    assert {item["generation"] for item in host.group(V4)["generations"]} == {2, 3}


def test_tables_of_generations_a_socket_has_left(host: Host, fleet: Fleet) -> None:
    sock = fleet.generation(V4, 1)[0]
    grm.promote(sock, 1)
    peer = fleet.clients(1)[0]
    peer.sendto(b"hi", target(V4))
    answer([sock], 1)
    for number in range(2, 6):
        grm.enroll([sock], number)
    spawned = subprocess.run([sys.executable, "-c", ONE_REGISTRATION], cwd=ROOT, check=True)
    assert spawned.returncode == 0  # its end makes the daemon collect
    wait_for(lambda: tables_in_use(host) == 2, "2 tables: that of 5, and of the flow made in 1")
    peer.sendto(b"hi", target(V4))
    assert answer([sock], 1) == [0]


ONE_REGISTRATION = """
import udpgrm.client as grm
grm.enroll(grm.bind("127.0.0.1:4434"), 1, 120)
"""


def tables_in_use(host: Host) -> int:
    """Flow tables of the group at V4."""
    maps = state.open_pinned(host.directory)
    try:
        groups = [maps.group(group_id) for group_id in range(maps.config.groups)]
        here = netns.own_cookie()
        [group] = [
            group
            for group in groups
            if (group.state, group.key.netns) == (abi.GroupState.LIVE, here)
            and of_key(group.key) == V4
        ]
        return sum(table != 0 for table in group.table)
    finally:
        maps.close()


def test_sends_of_a_socket_in_no_generation_make_flows(host: Host, fleet: Fleet) -> None:
    with host.stopped():  # a running daemon deletes groups without registered sockets
        sock = grm.bind(V4)[0]
        fleet.all.append(sock)
        peer = fleet.clients(1)[0]
        sock.sendto(b"hi", peer.getsockname())
        sock.sendto(b"hi", peer.getsockname())
        assert host.counters(V4) == {"tx_total": 2, "tx_flow_create_ok": 1, "tx_flow_update_ok": 1}


def test_indices(own_host: Host, fleet: Fleet) -> None:
    """Give a socket the lowest free or dead index, of 256; another registration changes nothing."""
    sockets = grm.bind(V4, 257)
    fleet.all += sockets
    assert grm.enroll(sockets[:256], 1) == list(range(256))
    assert grm.enroll(sockets[:3], 1) == [0, 1, 2]
    with pytest.raises(TimeoutError):
        grm.enroll(sockets[256:], 1, timeout=0.5)
    wait_for(lambda: "too many sockets in the gen!" in own_host.events.read_text(), "the refusal")
    assert "registering socket again is legal but weird" in own_host.events.read_text()
    close(sockets[7], sockets[5])
    assert grm.enroll([sockets[256]], 2) == [0]
    assert grm.enroll([sockets[256]], 1) == [5]


def test_flood_of_new_flows_evicts_no_draining_one(host: Host, fleet: Fleet) -> None:
    """Keep 1,000 flows of a draining generation beside 50,000 new replied ones."""
    old = fleet.generation(V4, 1, count=2)
    grm.promote(old[0], 1)
    early = fleet.clients(1000)
    for sock in early:
        sock.sendto(b"hi", target(V4))
        answer(old, 1)
    new = fleet.generation(V4, 2, count=2)
    grm.promote(new[0], 2)
    for number in range(50_000):
        # a reply to a peer that need not exist: what makes an entry is the send
        peer = (f"127.{1 + number // 50_000}.{number // 250 % 200}.{number % 250 + 1}", 9)
        new[number % 2].sendto(b"", peer)
    assert host.counters(V4)["tx_flow_create_ok"] == 51_000
    for sock in early:
        sock.sendto(b"hi", target(V4))
        answer(old, 1)
    assert host.counters(V4)["rx_flow_ok"] == 1000
