# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Flows that are keyed by the content of packets, whatever peer these come from or go to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Optional

import pytest

import udpgrm.client as grm
from bpf.dissectors.radius.packets import radius
from bpf.dissectors.sip.packets import sip
from testing.host import Host, client, plain_socket, wait_for
from tests.kernel.dissectors.named import ADDRESS, Sockets, dissector, got, send, sockets
from udpgrm.abi import Option

pytestmark = pytest.mark.daemon("shared")

__all__ = ["sockets"]

BYE = "2 BYE"
ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_CHALLENGE = 1, 2, 11


@pytest.fixture
def upstream() -> Iterator[socket.socket]:
    with plain_socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def two(sockets: Sockets, name: str, **parameters: Any) -> list[socket.socket]:
    """Return the sockets of two generations; the first is the working one."""
    value = dissector(name, parameters)
    both = [sockets.enrolled(value, generation)[0] for generation in (1, 2)]
    grm.promote(both[0], 1)
    return both


def goes_to(
    both: list[socket.socket], payload: bytes, sender: Optional[socket.socket] = None
) -> int:
    send(payload, sender)
    (position,) = got(both)
    return position


def flows(host: Host) -> list[tuple[int, float]]:
    """Return generation and age of each flow that has not expired.

    Those without a generation are an earlier test's, in another network namespace.
    """
    groups = host.json("flows", ADDRESS)["groups"]
    found = [item for group in groups for item in group["flows"] if item["generation"] is not None]
    assert all(item["remote"] is None and len(item["key"]) == 32 for item in found)
    return [(item["generation"], item["age"]) for item in found if not item["expired"]]


def has_egress_hook(host: Host) -> bool:
    return any(path.name.endswith("-egress") for path in (host.directory / "links").iterdir())


def test_answers_of_an_upstream_find_their_call(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    both = two(sockets, "sip")
    old, new = both
    old.sendto(sip("first"), upstream.getsockname())
    grm.promote(new, 2)
    new.sendto(sip("second"), upstream.getsockname())
    with client() as caller:
        for call, position in (("first", 0), ("second", 1), ("third", 1)):
            assert goes_to(both, sip(call), upstream) == position
            assert goes_to(both, sip(call, BYE), caller) == position
    counters = host.counters(ADDRESS)
    wanted = {"rx_flow_ok": 4, "rx_flow_new_unseen": 2, "tx_total": 2, "tx_flow_create_ok": 2}
    assert {name: counters[name] for name in wanted} == wanted
    assert [item["flows"] for item in host.group(ADDRESS)["generations"]] == [1, 1]
    assert sorted(generation for generation, _ in flows(host)) == [1, 2]


def test_received_messages_make_no_flow(host: Host, sockets: Sockets) -> None:
    both = two(sockets, "sip")
    for _ in range(2):
        assert goes_to(both, sip("call")) == 0
    assert flows(host) == []
    grm.promote(both[1], 2)
    assert goes_to(both, sip("call")) == 1


def test_what_has_no_call_is_a_new_flow(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    both = two(sockets, "sip")
    for payload in (
        b"",
        b"\r\n\r\n",
        b"\0\0\0\0",
        bytes(100),
        sip("x").replace(b"Call-ID", b"Call"),
    ):
        both[0].sendto(payload, upstream.getsockname())
        assert goes_to(both, payload, upstream) == 0
    grm.promote(both[1], 2)
    assert goes_to(both, b"\r\n\r\n", upstream) == 1
    assert flows(host) == []


def test_a_registration_is_a_flow_for_one_request(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    both = two(sockets, "sip")
    both[0].sendto(sip("phone", "1 REGISTER"), upstream.getsockname())
    grm.promote(both[1], 2)
    assert goes_to(both, sip("phone", "1 REGISTER"), upstream) == 0
    assert goes_to(both, sip("phone", "2 REGISTER")) == 1
    both[1].sendto(sip("phone", "2 REGISTER"), upstream.getsockname())
    assert goes_to(both, sip("phone", "2 REGISTER"), upstream) == 1


def test_a_call_that_has_ended_lasts_for_what_is_sent_again(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    both = two(sockets, "sip", flow_timeout=7200)
    assert host.group(ADDRESS)["dissector"]["name"] == "sip"
    both[0].sendto(sip("call"), upstream.getsockname())
    assert flows(host)[0][1] < 60
    both[0].sendto(sip("call", BYE), upstream.getsockname())
    age = flows(host)[0][1]
    assert 7200 - 32 - 1 < age < 7200
    assert goes_to(both, sip("call", BYE)) == 0


def test_a_short_timeout_is_no_longer_after_the_end(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    both = two(sockets, "sip", flow_timeout=30)
    both[0].sendto(sip("call", BYE), upstream.getsockname())
    assert flows(host)[0][1] < 30
    assert goes_to(both, sip("call", BYE)) == 0


def test_a_call_expires(host: Host, sockets: Sockets, upstream: socket.socket) -> None:
    both = two(sockets, "sip", flow_timeout=1)
    both[0].sendto(sip("call"), upstream.getsockname())
    grm.promote(both[1], 2)
    wait_for(lambda: not flows(host), "the call to expire")
    assert goes_to(both, sip("call")) == 1


def test_over_ipv6_and_on_a_wildcard(host: Host) -> None:
    value = dissector("sip", {})
    with contextlib.ExitStack() as stack:
        both = []
        for generation in (1, 2):
            sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("::", 4444))
            sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, value)
            grm.enroll([sock], generation)
            both.append(sock)
        grm.promote(both[0], 1)
        for family, here in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
            peer = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            peer.bind((here, 0))
            to = ("::1" if family == socket.AF_INET6 else "::ffff:127.0.0.1", peer.getsockname()[1])
            both[0].sendto(sip(here), to)
            grm.promote(both[1], 2)
            for call, position in ((here, 0), ("other", 1)):
                peer.sendto(sip(call), (here, 4444))
                assert got(both) == [position]
            grm.promote(both[0], 1)


def test_long_messages(host: Host, sockets: Sockets, upstream: socket.socket) -> None:
    """Read calls of messages longer than a packet of the network, which egress hooks see whole."""
    both = two(sockets, "sip")
    both[0].sendto(sip("call") + b"v" * 60_000, upstream.getsockname())
    grm.promote(both[1], 2)
    assert goes_to(both, sip("call") + b"w" * 60_000, upstream) == 0


def test_conversations_stay_where_their_state_is_from(
    host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    """Keep each conversation of a client with one port, as a proxy is, where its state is from."""
    both = two(sockets, "radius")
    assert goes_to(both, radius(ACCESS_REQUEST), upstream) == 0
    both[0].sendto(radius(ACCESS_CHALLENGE, b"first"), upstream.getsockname())
    grm.promote(both[1], 2)
    assert goes_to(both, radius(ACCESS_REQUEST), upstream) == 1
    both[1].sendto(radius(ACCESS_CHALLENGE, b"second"), upstream.getsockname())
    both[0].sendto(radius(ACCESS_ACCEPT, b"third"), upstream.getsockname())
    for state, position in ((b"first", 0), (b"second", 1), (b"third", 1)):
        assert goes_to(both, radius(ACCESS_REQUEST, state), upstream) == position
    assert goes_to(both, radius(4, b"first"), upstream) == 1  # accounting
    assert sorted(generation for generation, _ in flows(host)) == [1, 2]


def test_the_hook_is_there_while_it_is_needed(own_host: Host, sockets: Sockets) -> None:
    other = sockets.enrolled(dissector("quic", {"cid_length": 8}), 1)[0]
    assert not has_egress_hook(own_host)
    other.close()
    assert own_host.run("delete", ADDRESS).returncode == 0
    both = two(sockets, "sip")
    assert has_egress_hook(own_host)
    below = own_host.cgroup / "below"
    below.mkdir()
    try:
        assert own_host.run("hooks", "add", str(below)).returncode == 0
        before = len(list((own_host.directory / "links").glob("*-egress")))
        assert before == 2
        assert own_host.run("hooks", "remove", str(below)).returncode == 0
        assert len(list((own_host.directory / "links").glob("*-egress"))) == 1
    finally:
        below.rmdir()
    for sock in both:
        sock.close()
    program = own_host.directory / "programs" / "egress"
    wait_for(lambda: not program.exists(), "the hook to be unloaded")
    assert not has_egress_hook(own_host)


def test_calls_outlive_the_daemon(
    own_host: Host, sockets: Sockets, upstream: socket.socket
) -> None:
    """Hash with the same key in the next daemon's programs."""
    both = two(sockets, "sip")
    both[0].sendto(sip("call"), upstream.getsockname())
    own_host.kill()
    grm.promote(both[1], 2)
    both[1].sendto(sip("meanwhile"), upstream.getsockname())
    own_host.start()
    for call, position in (("call", 0), ("meanwhile", 1), ("other", 1)):
        assert goes_to(both, sip(call), upstream) == position
    assert has_egress_hook(own_host)
