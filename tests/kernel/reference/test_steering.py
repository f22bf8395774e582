# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Steering as its counters show it: reference, section 3.

test_steering.py and one file for each dissector have where packets go; here is what becomes of
those that cannot be read or whose socket cannot be had.
"""

from __future__ import annotations

import random
import socket
import sys

import pytest

from testing.host import Host, client, close, received, wait_for
from tests.kernel import sockopts as grm
from udpgrm import abi
from udpgrm.state import maps

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)
COOKIE = grm.dissector(grm.CBPF, rest=grm.filter_of(*grm.COOKIE_FIRST))


def enrolled(
    sockets: list[socket.socket], generation: int, value: bytes, host: str = "127.0.0.1"
) -> socket.socket:
    """Return a socket in a generation of a group with this dissector."""
    sock = grm.udp(host)
    sockets.append(sock)
    grm.put(sock, grm.DISSECTOR, value)
    grm.register(sock, generation)
    return sock


def cookie_bytes(sock: socket.socket) -> bytes:
    return grm.socket_gen(sock)[2].to_bytes(2, "big")


def positions(sockets: list[socket.socket], payloads: list[bytes]) -> list[int]:
    """Return the position of the socket that each packet of a new client reached."""
    for payload in payloads:
        with client() as sock:
            sock.sendto(payload, TARGET)
    return [position for position, _ in received(sockets)]


DIVISION = ((0x30, 0, 0, 0), (0x07, 0, 0, 0), (0x3C, 0, 0, 0), (0x16, 0, 0, 0))


@pytest.mark.parametrize(
    ("counter", "value", "payload"),
    [
        ("rx_packet_too_short_error", COOKIE, b"x"),
        ("rx_packet_too_short_error", grm.dissector(grm.BESPOKE, digest=0xDEAD), b"x" * 23),
        ("rx_cbpf_prog_error", grm.dissector(grm.CBPF, rest=grm.filter_of(*DIVISION)), b"\0"),
    ],
)
def test_the_kernel_spreads_what_cannot_be_read(
    shared_host: Host, sockets: list[socket.socket], counter: str, value: bytes, payload: bytes
) -> None:
    """Let the kernel spread it over all sockets, whatever the working generation is."""
    for generation in (1, 2):
        enrolled(sockets, generation, value)
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(2))
    got = positions(sockets, [payload] * 60)
    assert len(got) == 60
    assert 0 < sum(got) < 60
    assert shared_host.counters(ADDRESS) == {"rx_processed_total": 60, counter: 60}


def test_broken_state(host: Host, sockets: list[socket.socket]) -> None:
    """Spread packets as the kernel does while the group's record has another epoch."""
    for generation in (1, 2):
        enrolled(sockets, generation, grm.dissector(grm.NOOP))
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(2))
    opened = maps.open_pinned(host.directory)
    (group_id,) = opened.groups_in(abi.GroupState.LIVE)
    record = opened.group(group_id)
    with host.stopped():  # a running daemon might repair the record
        record.epoch += 1
        got = positions(sockets, [b"x"] * 60)
        record.epoch -= 1
    del record
    assert len(got) == 60
    assert 0 < sum(got) < 60
    assert positions(sockets, [b"x"] * 3) == [1] * 3
    assert host.counters(ADDRESS) == {
        "rx_processed_total": 63,
        "rx_internal_state_error": 60,
        "rx_dissected_ok_total": 3,
        "rx_flow_new_unseen": 3,
        "rx_new_flow_total": 3,
        "rx_new_flow_working_gen_dispatch_ok": 3,
    }


def test_a_socket_of_another_group_of_the_kernel(
    shared_host: Host, sockets: list[socket.socket]
) -> None:
    """Treat a cookie from another kernel group as new: the kernel selects no socket across.

    Sockets that differ in IPV6_V6ONLY are in two groups of the kernel.
    """
    for only_six in (0, 1):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_six)
        sock.bind(("::", 4433))
        grm.put(sock, grm.DISSECTOR, COOKIE)
        grm.register(sock, 1 + only_six)
    dual, six = sockets
    grm.put(dual, grm.WORKING_GEN, grm.u32(1))
    assert positions(sockets, [cookie_bytes(six), cookie_bytes(dual)]) == [0, 0]
    assert shared_host.counters("[::]:4433") == {
        "rx_processed_total": 2,
        "rx_dissected_ok_total": 2,
        "rx_flow_ok": 1,
        "rx_flow_rg_conflict": 1,
        "rx_new_flow_total": 1,
        "rx_new_flow_working_gen_dispatch_ok": 1,
    }


def test_each_stage_counts_once(shared_host: Host, sockets: list[socket.socket]) -> None:
    """Count packets of all kinds so that what enters a stage comes out of it."""
    old, dead, new = (enrolled(sockets, generation, COOKIE) for generation in (1, 1, 2))
    grm.put(new, grm.WORKING_GEN, grm.u32(2))
    kinds = [cookie_bytes(old), cookie_bytes(dead), b"\0\0", b"x", cookie_bytes(new), b"\xff\x7f"]
    close(dead)
    sockets.remove(dead)
    seed = random.randrange(2**32)
    print(f"seed {seed}", file=sys.stderr)
    sent = random.Random(seed).choices(kinds, k=200)
    assert len(positions(sockets, sent)) == 200
    counted = dict.fromkeys(shared_host.group(ADDRESS)["metrics"], 0)
    counted |= shared_host.counters(ADDRESS)
    total = {kind: sent.count(kind) for kind in kinds}
    assert counted["rx_processed_total"] == 200
    assert counted["rx_packet_too_short_error"] == total[b"x"]
    assert counted["rx_dissected_ok_total"] == 200 - total[b"x"]
    assert counted["rx_flow_ok"] == total[kinds[0]] + total[kinds[4]]
    assert counted["rx_flow_other_error"] == total[kinds[1]]
    assert counted["rx_flow_new_unseen"] == total[b"\0\0"] + total[b"\xff\x7f"]
    assert counted["rx_flow_new_bad_cookie"] == total[b"\0\0"]
    misses = ("rx_flow_rg_conflict", "rx_flow_other_error", "rx_flow_new_unseen")
    assert counted["rx_new_flow_total"] == sum(counted[name] for name in misses)
    assert counted["rx_new_flow_working_gen_dispatch_ok"] == counted["rx_new_flow_total"]


def test_a_flow_is_an_address_and_a_port(shared_host: Host, sockets: list[socket.socket]) -> None:
    """Give peers that share an address or a port flows of their own."""
    old = enrolled(sockets, 1, grm.dissector(grm.FLOW))
    grm.put(old, grm.WORKING_GEN, grm.u32(1))
    with (
        grm.udp("127.0.0.5", 7001, reuseport=False) as peer,
        grm.udp("127.0.0.5", 7002, reuseport=False) as other_port,
        grm.udp("127.0.0.6", 7001, reuseport=False) as other_address,
    ):
        old.sendto(b"x", peer.getsockname())
        new = enrolled(sockets, 2, grm.dissector(grm.FLOW))
        grm.put(new, grm.WORKING_GEN, grm.u32(2))
        for sock, expected in ((peer, 0), (other_port, 1), (other_address, 1)):
            sock.sendto(b"x", TARGET)
            assert [position for position, _ in received(sockets)] == [expected]


def test_a_draining_flow_expires(shared_host: Host, sockets: list[socket.socket]) -> None:
    """End a flow flow_timeout_s after the last send, whatever it received, and count that."""
    old = enrolled(sockets, 1, grm.dissector(grm.FLOW, timeout=1))
    with client() as peer:
        old.sendto(b"x", peer.getsockname())
        new = enrolled(sockets, 2, grm.dissector(grm.FLOW, timeout=1))
        grm.put(new, grm.WORKING_GEN, grm.u32(2))

        def moved() -> bool:
            peer.sendto(b"x", TARGET)
            return [position for position, _ in received(sockets)] == [1]

        wait_for(moved, "the flow to expire")
    counted = shared_host.counters(ADDRESS)
    assert counted["rx_flow_new_had_expired"] == counted["rx_flow_new_unseen"] == 1
