# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Echo, raw, QUIC and SIP: the bytes that are sent, and what replies mean."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.probes import specs
from udpgrm.probes.dns import Dns
from udpgrm.probes.echo import Echo
from udpgrm.probes.exchange import Endpoints, Exchange
from udpgrm.probes.quic import VERSION, VersionNegotiation
from udpgrm.probes.raw import Raw
from udpgrm.probes.sip import Sip
from udpgrm.probes.stun import Stun

HERE = Endpoints(("192.0.2.4", 5062), ("192.0.2.1", 5060))
HERE6 = Endpoints(("2001:db8::4", 5062), ("2001:db8::1", 5060))


def test_echo() -> None:
    echo = Echo()
    assert len(echo.request) == 16
    assert echo.evaluate(echo.request).kind == "passed"
    assert echo.evaluate(echo.request + b"\0").kind == "unrelated"
    assert echo.evaluate(Echo().request).kind == "unrelated"


@pytest.mark.parametrize(
    ("expect", "reply", "kind"),
    [
        (None, b"", "passed"),
        (None, b"x", "passed"),
        ("0AfF", b"\x0a\xff", "passed"),
        ("0aff", b"\x0a\xff\x00", "unrelated"),
        ("0aff", b"\x0a", "unrelated"),
        ("?aff", b"\x7a\xff", "passed"),
        ("?aff", b"\x7b\xff", "unrelated"),
        ("??ff", b"\n\xff", "passed"),
        ("0a*", b"\x0a", "passed"),
        ("0a*", b"\x0a\x01\x02", "passed"),
        ("0a*", b"\x0b\x0a", "unrelated"),
        ("*", b"", "passed"),
        ("", b"", "passed"),
        ("", b"x", "unrelated"),
    ],
)
def test_raw(expect: str | None, reply: bytes, kind: str) -> None:
    raw = Raw(specs.RawProbe(payload="00Ff10", expect=expect))
    assert raw.request == b"\x00\xff\x10"
    assert raw.evaluate(reply).kind == kind


DESTINATION, SOURCE = b"\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7", b"\x50\x51\x52\x53\x54\x55\x56\x57"


def negotiation(
    destination: bytes = SOURCE,
    source: bytes = DESTINATION,
    versions: bytes = b"\0\0\0\1",
    version: int = 0,
    first: int = 0xA5,
) -> bytes:
    """RFC 8999, section 6: Version Negotiation."""
    ids = bytes([len(destination)]) + destination + bytes([len(source)]) + source
    return struct.pack("!BI", first, version) + ids + versions


def test_quic_request() -> None:
    request = VersionNegotiation(DESTINATION, SOURCE).request
    assert len(request) == 1200
    # RFC 8999, section 5.1: long header form, version, both ids with their lengths
    assert request[0] & 0x80
    assert request[1:5].hex() == "1a2a3a4a"
    assert request[5:23] == b"\x08" + DESTINATION + b"\x08" + SOURCE
    assert VERSION & 0x0F0F0F0F == 0x0A0A0A0A  # RFC 9000, section 15


def test_quic_ids_are_random_and_no_cookies() -> None:
    ids = {VersionNegotiation().request[6:14] for _ in range(500)}
    assert len(ids) == 500
    assert all(item[0] != 1 for item in ids)


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (negotiation(), "passed", "Version Negotiation, 0x00000001"),
        (negotiation(versions=b"\0\0\0\1\x6b\x33\x43\xcf"), "passed", "0x00000001 0x6b3343cf"),
        (negotiation(first=0x80), "passed", ""),
        (negotiation(DESTINATION, SOURCE), "unrelated", "other connection ids"),
        (negotiation(SOURCE, b""), "unrelated", "other connection ids"),
        (negotiation(first=0x40), "unrelated", "not a QUIC long header"),
        (negotiation(version=1), "failed", "of version 0x00000001, no Version Negotiation"),
        (negotiation(versions=b""), "failed", "with 0 bytes of versions"),
        (negotiation(versions=b"\0\0\0\1\0"), "failed", "with 5 bytes of versions"),
        (negotiation(versions=struct.pack("!I", VERSION)), "failed", "the version it refuses"),
        (negotiation()[:20], "unrelated", "too short"),
        (b"", "unrelated", "too short"),
        (b"\x80\0\0\0\0", "unrelated", "too short"),
    ],
)
def test_quic_replies(reply: bytes, kind: str, reason: str) -> None:
    verdict = VersionNegotiation(DESTINATION, SOURCE).evaluate(reply)
    assert verdict.kind == kind
    assert reason in verdict.reason


def test_sip_request() -> None:
    """RFC 3261, section 8.1.1: the fields that every request must have."""
    head, blank, body = Sip(specs.SipProbe(), HERE).request.decode().partition("\r\n\r\n")
    assert (blank, body) == ("\r\n\r\n", "")
    first, *lines = head.split("\r\n")
    assert first == "OPTIONS sip:192.0.2.1:5060 SIP/2.0"
    headers = dict(line.split(": ", 1) for line in lines)
    assert set(headers) >= {"To", "From", "CSeq", "Call-ID", "Max-Forwards", "Via"}
    assert headers["Via"].startswith("SIP/2.0/UDP 192.0.2.4:5062;branch=z9hG4bK")
    assert ";tag=" in headers["From"]
    assert headers["CSeq"] == "1 OPTIONS"
    assert headers["Content-Length"] == "0"


def test_sip_uris() -> None:
    assert Sip(specs.SipProbe(), HERE6).request.startswith(b"OPTIONS sip:[2001:db8::1]:5060 SIP")
    request = Sip(specs.SipProbe(uri="sip:carol@chicago.com"), HERE).request
    assert request.startswith(b"OPTIONS sip:carol@chicago.com SIP/2.0\r\n")
    assert b"\r\nTo: <sip:carol@chicago.com>\r\n" in request


#: RFC 3261, section 11.2, the response to OPTIONS.
RFC_3261 = """\
SIP/2.0 200 OK
Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKhjhs8ass877
 ;received=192.0.2.4
To: <sip:carol@chicago.com>;tag=93810874
From: Alice <sip:alice@atlanta.com>;tag=1928301774
Call-ID: a84b4c76e66710
CSeq: 63104 OPTIONS
Contact: <sip:carol@chicago.com>
Contact: <mailto:carol@chicago.com>
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE
Accept: application/sdp
Accept-Encoding: gzip
Accept-Language: en
Supported: foo
Content-Type: application/sdp
Content-Length: 274

""".replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("old", "new", "kind", "reason"),
    [
        ("", "", "passed", "SIP 200 OK"),
        ("200 OK", "404 Not Found", "passed", "SIP 404 Not Found"),
        ("200 OK", "503 ", "passed", "SIP 503"),
        ("200 OK", "200", "passed", "SIP 200"),
        ("200 OK", "100 Trying", "unrelated", "SIP 100 Trying is not final"),
        ("200 OK", "700 No", "unrelated", "not a SIP response"),
        ("SIP/2.0 200 OK", "OPTIONS sip:a SIP/2.0", "unrelated", "not a SIP response"),
        ("a84b4c76e66710", "a84b4c76e66711", "unrelated", "another call or branch"),
        ("8ass877", "8ass878", "unrelated", "another call or branch"),
        (";branch=", ";other=", "unrelated", "another call or branch"),
        ("Via:", "v :", "passed", ""),
        ("Call-ID:", "i:", "passed", ""),
        ("Call-ID:", "CALL-id :\t", "passed", ""),
        (";branch=z9", "\r\n ;branch=z9", "passed", ""),
        ("Via: ", "Via: SIP/2.0/UDP x;branch=z9hG4bKother,", "unrelated", "call or branch"),
        ("Via: ", "Via: SIP/2.0/UDP x;branch=z9hG4bKother\r\nVia: ", "unrelated", "call or"),
        ("Call-ID: a84b4c76e66710\r\n", "", "unrelated", "another call or branch"),
    ],
)
def test_sip_replies(old: str, new: str, kind: str, reason: str) -> None:
    sip = Sip(specs.SipProbe(), HERE, "z9hG4bKhjhs8ass877", "a84b4c76e66710")
    assert old in RFC_3261
    verdict = sip.evaluate(RFC_3261.replace(old, new, 1).encode())
    assert verdict.kind == kind
    assert reason in verdict.reason


EXCHANGES: list[Exchange] = [
    Echo(),
    Raw(specs.RawProbe(payload="00", expect="?0*")),
    Dns(specs.DnsProbe(), 1),
    Dns(specs.DnsProbe(identity=True), 1),
    VersionNegotiation(),
    Stun(),
    Sip(specs.SipProbe(), HERE),
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda item: type(item).__name__)
@given(data=st.data())
def test_any_reply_is_evaluated(exchange: Exchange, data: st.DataObject) -> None:
    """Evaluate a reply, too, that begins as the question does, which parsers read on."""
    kept = data.draw(st.integers(0, min(len(exchange.request), 60)))
    reply = bytearray(exchange.request[:kept] + data.draw(st.binary(max_size=80)))
    if len(reply) > 2 and data.draw(st.booleans()):
        reply[2] |= 0x80  # a response, to DNS
    if len(reply) > 1 and data.draw(st.booleans()):
        reply[0] |= 0x01  # a success response, to STUN
    verdict = exchange.evaluate(bytes(reply))
    assert verdict.reason


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda item: type(item).__name__)
def test_a_question_is_no_answer_to_itself(exchange: Exchange) -> None:
    """Refuse the question as its answer, except for echo and raw probes."""
    expected = {Echo: "passed", Raw: "passed"}.get(type(exchange), "unrelated")
    assert exchange.evaluate(exchange.request).kind == expected
