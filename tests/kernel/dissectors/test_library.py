# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Named dissectors that are shipped, with real packets."""

from __future__ import annotations

from typing import Any

import pytest

import udpgrm.client as grm
from bpf.dissectors.quic_lb.packets import KEY
from bpf.dissectors.stun.packets import stun
from testing.dissectors import Case, cases
from testing.host import Host, client, close
from tests.kernel.dissectors.named import ADDRESS, Sockets, cookie_of, dissector, got, send, sockets
from udpgrm import abi

pytestmark = pytest.mark.daemon("shared")

__all__ = ["sockets"]


@pytest.mark.parametrize("case", cases().values(), ids=cases())
def test_packets(host: Host, sockets: Sockets, case: Case) -> None:
    old = sockets.enrolled(dissector(case.dissector, case.parameters), 33, count=3)
    new = sockets.enrolled(dissector(case.dissector, case.parameters), 34, count=2)
    grm.promote(new[0], 34)
    both = [*old, *new]
    named = 0
    for make in case.named:
        for position, sock in enumerate(both):
            send(make(cookie_of(sock).to_bytes(2, "big")))
            assert got(both) == [position]
            named += 1
    wrong = [
        make(cookie.to_bytes(2, "big"))
        for make in case.named[:1]
        for cookie in (
            cookie_of(old[0]) ^ 0x20,  # bad checksum
            abi.make_cookie(20, 0),  # a generation that there is not
        )
    ]
    for payload in wrong:
        send(payload)
        assert got(both)[0] >= len(old)
    for payload in case.fresh:
        send(payload)
        assert got(both)[0] >= len(old), payload
    for payload in case.short:
        send(payload)
        assert len(got(both)) == 1, payload
    fresh = len(case.fresh) + len(wrong)
    expected = {
        "rx_processed_total": named + fresh + len(case.short),
        "rx_packet_too_short_error": len(case.short),
        "rx_dissected_ok_total": named + fresh,
        "rx_flow_ok": named,
        "rx_flow_new_unseen": fresh,
        "rx_flow_new_bad_cookie": len(case.named[:1]),
        "rx_new_flow_total": fresh,
        "rx_new_flow_working_gen_dispatch_ok": fresh,
    }
    assert host.counters(ADDRESS) == {name: value for name, value in expected.items() if value}


def test_vectors_of_the_draft(host: Host, sockets: Sockets) -> None:
    """Refuse the server IDs of draft-ietf-quic-load-balancers-21, appendix B, as cookies."""
    for cid, parameters in (
        ("07c4605e4504cc4f", {"server_id_length": 3, "nonce_length": 4}),
        (
            "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
            {"config_rotation": 2, "server_id_length": 8, "nonce_length": 8, "key": KEY},
        ),
    ):
        value = dissector("quic_lb", {**parameters, "self_encoded_length": True})
        sock = sockets.enrolled(value, 1)[0]
        grm.promote(sock, 1)
        send(b"\x40" + bytes.fromhex(cid))
        assert got([sock]) == [0]
        # 0x605e and 0x8f5f: slot 30 and 31; their checksums would be 5 and 5
        wrong = host.counters(ADDRESS).get("rx_flow_new_bad_cookie", 0)
        last = {"07": 0x605E, "50": 0x8F5F}[cid[:2]]
        assert wrong == (abi.make_cookie(last & 31, last >> 8) != last)
        sock.close()
        assert host.run("delete", ADDRESS).returncode == 0


def test_dns_is_noop(host: Host, sockets: Sockets) -> None:
    value = dissector("dns", {})
    old, new = sockets.enrolled(value, 1)[0], sockets.enrolled(value, 2)[0]
    grm.promote(new, 2)
    with client() as sender:
        for _ in range(3):
            send(b"query", sender)
            assert got([old, new]) == [1]


def test_media_follow_their_ice_session(own_host: Host, sockets: Sockets) -> None:
    value = dissector("stun", {})
    old, other = sockets.enrolled(value, 1, count=2)
    grm.promote(old, 1)
    new = sockets.enrolled(value, 2)[0]
    grm.promote(new, 2)
    everyone = [old, other, new]
    with client() as peer, client() as third:
        for sock in (old, new, other, old, old):  # sessions that share a peer, one after another
            send(stun(f"{cookie_of(sock):04x}"), peer)
            assert got(everyone) == [everyone.index(sock)]
            for payload in (b"\x80media", b"\x16dtls", stun("none", kind=0x0101)):
                send(payload, peer)
                assert got(everyone) == [everyone.index(sock)]
                send(payload, third)
                assert got(everyone) == [2]
        flows = own_host.json("flows", ADDRESS)["groups"][0]["flows"]
        port = peer.getsockname()[1]
        assert [item["remote"] for item in flows] == [f"127.0.0.1:{port}"]
        close(old)
        send(b"\x80media", peer)
        assert got([other, new]) == [1]


def test_flows_are_counted_after_any_promotion(host: Host, sockets: Sockets) -> None:
    """Count the flows of a draining generation after a promotion by the command, too."""
    value = dissector("quic", {"cid_length": 8})
    old = sockets.enrolled(value, 1)[0]
    grm.promote(old, 1)
    new = sockets.enrolled(value, 2)[0]
    assert [item["flows"] for item in host.group(ADDRESS)["generations"]] == [None, None]
    host.json("working-gen", ADDRESS, "2")
    assert [item["flows"] for item in host.group(ADDRESS)["generations"]] == [0, None]
    with client() as peer:
        send(b"\x40" + cookie_of(old).to_bytes(2, "big") + bytes(6), peer)
        assert got([old, new]) == [0]
    assert [item["flows"] for item in host.group(ADDRESS)["generations"]] == [1, None]


def test_a_generation_that_is_promoted_again_takes_no_table(host: Host, sockets: Sockets) -> None:
    """Give it no flow table, in which each packet would cost an update, as it does not drain."""
    sock = sockets.enrolled(dissector("quic", {"cid_length": 8}), 1)[0]
    for _ in range(2):
        grm.promote(sock, 1)
    assert [item["flows"] for item in host.group(ADDRESS)["generations"]] == [None]


def test_forged_sessions_take_no_tables(own_host: Host, sockets: Sockets) -> None:
    """Leave nothing behind after a request that names a generation without sockets."""
    sock = sockets.enrolled(dissector("stun", {}), 1)[0]
    grm.promote(sock, 1)
    for slot in range(32):
        send(stun(f"{abi.make_cookie(slot, 9):04x}"))
    assert len(got([sock])) == 32
    assert own_host.json("flows", ADDRESS)["groups"][0]["flows"] == []


@pytest.mark.parametrize(
    ("name", "parameters", "reason"),
    [
        ("nosuch", {}, "no dissector 'nosuch' in "),
        ("../quic", {}, "not a dissector's name: '../quic'"),
        ("noop", {}, "dissector noop is a type of its own"),
        ("quic", {}, "dissector quic: parameter cid_length is missing (2..20)"),
        ("quic", {"cid_length": 8, "x": 1}, "dissector quic: unknown parameter 'x' "),
        ("quic", {"cid_length": 21}, "dissector quic: cid_length: 21 is not 2..20"),
    ],
)
def test_what_cannot_be_used_still_delivers(
    own_host: Host, sockets: Sockets, name: str, parameters: dict[str, Any], reason: str
) -> None:
    sock = sockets.bound(dissector(name, parameters))
    assert grm.enroll([sock], 1) == [0]
    grm.promote(sock, 1)
    send(b"packet")
    assert got([sock]) == [0]
    assert own_host.counters(ADDRESS)["socket_critical"] == 1
    messages = [line for line in own_host.errors.read_text().splitlines() if "no steering" in line]
    assert len(messages) == 1
    assert messages[0].startswith(f"no steering for {ADDRESS}: {reason}")
    assert own_host.process.poll() is None
