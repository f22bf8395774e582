# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""NTP, RADIUS, CoAP, DTLS and TURN: the bytes that are sent, and what replies mean."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.probes import specs
from udpgrm.probes.coap import Coap
from udpgrm.probes.dtls import Dtls
from udpgrm.probes.exchange import Exchange
from udpgrm.probes.ntp import Ntp
from udpgrm.probes.radius import Radius
from udpgrm.probes.stun import Stun

STAMP = bytes(range(8))


def ntp_reply(head: int = 0x24, stratum: int = 2, origin: bytes = STAMP) -> bytes:
    return bytes((head, stratum)) + bytes(10) + b"RATE" + bytes(8) + origin + bytes(16)


@pytest.mark.parametrize(
    ("reply", "kind", "reason", "strictly"),
    [
        (ntp_reply(), "passed", "NTP stratum 2", "passed"),
        (ntp_reply(0xE4), "passed", "NTP stratum 2, not synchronized", "unrelated"),
        (ntp_reply(stratum=16), "passed", "NTP stratum 16", "unrelated"),
        (ntp_reply(stratum=0), "passed", "NTP kiss code RATE", "unrelated"),
        (ntp_reply() + bytes(20), "passed", "NTP stratum 2", "passed"),
        (ntp_reply(0x23), "unrelated", "not the answer", "unrelated"),
        (ntp_reply(origin=bytes(8)), "unrelated", "not the answer", "unrelated"),
        (ntp_reply()[:47], "unrelated", "too short", "unrelated"),
    ],
)
def test_ntp(reply: bytes, kind: str, reason: str, strictly: str) -> None:
    verdict = Ntp(specs.NtpProbe(), STAMP).evaluate(reply)
    assert verdict.kind == kind and reason in verdict.reason
    assert Ntp(specs.NtpProbe(synchronized=True), STAMP).evaluate(reply).kind == strictly


def test_an_ntp_request() -> None:
    assert Ntp(specs.NtpProbe(), STAMP).request == b"\x23" + bytes(39) + STAMP


AUTHENTICATOR = bytes(range(16))
SECRET = b"xyzzy5461"


def radius_reply(
    code: int = 2, identifier: int = 0, attributes: bytes = b"", secret: bytes = SECRET
) -> bytes:
    head = struct.pack("!BBH", code, identifier, 20 + len(attributes))
    return head + hashlib.md5(head + AUTHENTICATOR + attributes + secret).digest() + attributes


def radius() -> Radius:
    return Radius(specs.RadiusProbe(secret=SECRET.decode()), AUTHENTICATOR)


def test_the_radius_request_of_rfc_5997() -> None:
    """Section 6.1: Status-Server with the secret xyzzy5461."""
    request = "0cda00268a54f4686fb394c52866e302185d0623 50125a665e2e1e8411f3e243822097c84fa3"
    given_ = bytes.fromhex(request.replace(" ", ""))
    built = Radius(specs.RadiusProbe(secret="xyzzy5461"), given_[4:20]).request
    # the example's identifier is no byte of its authenticator, and is signed
    head = built[:1] + given_[1:2] + built[2:20]
    signed = hmac.digest(b"xyzzy5461", head + b"\x50\x12" + bytes(16), "md5")
    assert head + b"\x50\x12" + signed == given_
    assert built[20:22] == b"\x50\x12" and len(built) == 38


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (radius_reply(), "passed", "RADIUS Access-Accept"),
        (radius_reply(5), "passed", "RADIUS Accounting-Response"),
        (radius_reply(attributes=b"\x12\x04ok"), "passed", "RADIUS Access-Accept"),
        (radius_reply() + b"padding", "passed", "RADIUS Access-Accept"),
        (radius_reply(secret=b"other"), "failed", "signed with another secret"),
        (radius_reply(attributes=b"\x12\x04ok")[:-1], "failed", "length is 24, 23 bytes came"),
        (radius_reply(identifier=1), "unrelated", "not the answer"),
        (radius_reply(12), "unrelated", "not the answer"),
        (radius_reply()[:19], "unrelated", "too short"),
    ],
)
def test_radius(reply: bytes, kind: str, reason: str) -> None:
    verdict = radius().evaluate(reply)
    assert verdict.kind == kind and reason in verdict.reason


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ("7000cafe", "passed", "CoAP reset"),
        ("6000cafe", "failed", "empty reset"),
        ("7045cafe", "failed", "empty reset"),
        ("7000cafeff", "failed", "empty reset"),
        ("7000caff", "unrelated", "not the answer"),
        ("b000cafe", "unrelated", "not the answer"),
        ("5045cafe", "unrelated", "of its own"),
        ("7000ca", "unrelated", "too short"),
    ],
)
def test_coap(reply: str, kind: str, reason: str) -> None:
    coap = Coap(0xCAFE)
    assert coap.request.hex() == "4000cafe"
    verdict = coap.evaluate(bytes.fromhex(reply))
    assert verdict.kind == kind and reason in verdict.reason


def record(body: bytes, kind: int = 22, version: int = 0xFEFF, epoch: int = 0) -> bytes:
    return struct.pack("!BHHHIH", kind, version, epoch, 0, 0, len(body)) + body


def message(kind: int) -> bytes:
    return bytes((kind,)) + bytes(11)


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (record(message(3)), "passed", "DTLS HelloVerifyRequest"),
        (record(message(2), version=0xFEFD), "passed", "DTLS ServerHello"),
        (record(b"\2\x28", 21), "passed", "DTLS alert 40"),
        (record(message(11)), "failed", "begins with message 11"),
        (record(b""), "failed", "begins with message none"),
        (record(b"\2", 21), "failed", "alert of 1 bytes"),
        (record(message(3))[:-1], "failed", "has 12 bytes, 11 came"),
        (record(message(3), 23), "unrelated", "no DTLS record"),
        (record(message(3), version=0x0303), "unrelated", "no DTLS record"),
        (record(message(3), epoch=1), "unrelated", "no DTLS record"),
        (record(b"")[:12], "unrelated", "too short"),
    ],
)
def test_dtls(reply: bytes, kind: str, reason: str) -> None:
    verdict = Dtls().evaluate(reply)
    assert verdict.kind == kind and reason in verdict.reason


def test_a_client_hello() -> None:
    """RFC 6347, 4.2.2: record, handshake header, and lengths that fit."""
    request = Dtls(bytes(32)).request
    assert request[:3] == b"\x16\xfe\xff" and request[13] == 1
    assert int.from_bytes(request[11:13], "big") == len(request) - 13
    assert request[14:17] == request[22:25] == (len(request) - 25).to_bytes(3, "big")
    assert request[25:27] == b"\xfe\xfd"
    assert Dtls().request[27:59] != Dtls().request[27:59]


def test_turn() -> None:
    turn = Stun(allocate=True, transaction=bytes(12))
    assert turn.request.hex() == (
        "000300102112a442" + "00" * 12 + "0019000411000000" + "000d000400000000"
    )
    head = struct.pack("!HHI", 0x0113, 20, 0x2112A442) + bytes(12)
    refused = head + b"\x00\x09\x00\x10\x00\x00\x04\x01Unauthorized"
    assert turn.evaluate(refused).reason == "STUN error 401 Unauthorized"
    assert Stun(transaction=bytes(12)).evaluate(refused).kind == "unrelated"


@given(reply=st.binary(max_size=80))
def test_nothing_that_comes_raises(reply: bytes) -> None:
    exchanges: list[Exchange] = [
        Ntp(specs.NtpProbe()),
        radius(),
        Coap(1),
        Dtls(),
        Stun(allocate=True),
    ]
    for exchange in exchanges:
        for start in (reply, exchange.request[:4] + reply):
            assert exchange.evaluate(start).kind in ("failed", "unrelated", "passed")
