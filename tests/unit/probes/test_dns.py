# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The DNS probe: queries byte by byte, and responses right and wrong."""

from __future__ import annotations

import struct

import pytest

from udpgrm.probes import dns, specs
from udpgrm.probes.dns import Dns

QUESTION = b"\x01F\x03ISI\x04ARPA\x00\x00\x01\x00\x01"
QUERY = specs.DnsProbe(name="F.ISI.ARPA", query_type="A")
ADDRESS = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x0a\x02\x00\x34"
IDENTITY_QUESTION = b"\x02id\x06server\x00\x00\x10\x00\x03"
IDENTITY = b"\xc0\x0c\x00\x10\x00\x03\x00\x00\x00\x00\x00\x08\x03ns1\x03-g7"


def response(
    *records: bytes,
    number: int = 0x1234,
    flags: int = 0x8580,
    question: bytes = QUESTION,
    questions: int = 1,
    authority: int = 0,
) -> bytes:
    counts = (questions, len(records) - authority, authority, 0)
    return struct.pack("!6H", number, flags, *counts) + question + b"".join(records)


def test_request() -> None:
    """RFC 1035, section 4.1."""
    header = bytes.fromhex("123401000001000000000000")
    assert Dns(QUERY, 0x1234).request == header + QUESTION
    assert Dns(specs.DnsProbe(), 0x1234).request == header + b"\0\0\2\0\1"
    assert Dns(specs.DnsProbe(name="a.", query_type="TYPE99"), 0x1234).request == (
        header + b"\x01a\0\0\x63\0\1"
    )
    assert Dns(specs.DnsProbe(identity=True), 0x1234).request == header + IDENTITY_QUESTION


def test_names_of_rfc_1035() -> None:
    """Section 4.1.4: F.ISI.ARPA, FOO.F.ISI.ARPA, ARPA and the root."""
    message = bytearray(93)
    message[20:32] = b"\x01F\x03ISI\x04ARPA\x00"
    message[40:46] = b"\x03FOO\xc0\x14"
    message[64:66] = b"\xc0\x1a"
    data = bytes(message)
    assert dns._name(data, 20) == ((b"f", b"isi", b"arpa"), 32)
    assert dns._name(data, 40) == ((b"foo", b"f", b"isi", b"arpa"), 46)
    assert dns._name(data, 64) == ((b"arpa",), 66)
    assert dns._name(data, 92) == ((), 93)


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (response(ADDRESS), "passed", "DNS NOERROR, 1 answers"),
        (response(ADDRESS, ADDRESS, authority=1), "passed", "DNS NOERROR, 1 answers"),
        (response(question=QUESTION.lower()), "passed", "DNS NOERROR, 0 answers"),
        (response(flags=0x8183), "passed", "DNS NXDOMAIN"),
        (response(flags=0x8105), "passed", "DNS REFUSED"),
        (response(flags=0x810B), "passed", "DNS rcode 11"),
        (response(question=b"", questions=0, flags=0x8101), "passed", "DNS FORMERR"),
        (response(number=0x1235), "unrelated", "not the response to this DNS query"),
        (response(flags=0x0580), "unrelated", "not the response to this DNS query"),
        (response(flags=0xA180), "unrelated", "not the response to this DNS query"),
        (response(question=QUESTION[:-3] + b"\x1c\0\1"), "unrelated", "another question"),
        (response(question=b"\x01G" + QUESTION[2:]), "unrelated", "another question"),
        (response()[:11], "unrelated", "too short"),
        (response(ADDRESS)[:-1], "failed", "a record is cut off"),
        (response(ADDRESS)[:-8], "failed", "malformed"),
        (response(ADDRESS) + b"\0", "failed", "1 bytes after its end"),
        (response(b""), "failed", "a name is cut off"),
        (response(b"\xc0\xff" + ADDRESS[2:]), "failed", "a name points forward"),
        (response(b"\xc0\x1c" + ADDRESS[2:]), "failed", "a name points forward"),
        (response(b"\x41" + ADDRESS[1:]), "failed", "a label of type 0x1"),
        (response(b"\x01a\xc0\x1c" + ADDRESS[2:]), "failed", "cut off or too long"),
        (response(b"\x3fabc"), "failed", "a name is cut off"),
    ],
)
def test_replies(reply: bytes, kind: str, reason: str) -> None:
    verdict = Dns(QUERY, 0x1234).evaluate(reply)
    assert verdict.kind == kind
    assert reason in verdict.reason


def test_an_rcode_that_is_expected() -> None:
    query = Dns(specs.DnsProbe(name="F.ISI.ARPA", query_type="A", rcode="NXDOMAIN"), 0x1234)
    assert query.evaluate(response(flags=0x8183)).kind == "passed"
    verdict = query.evaluate(response(ADDRESS))
    assert (verdict.kind, verdict.reason) == ("failed", "DNS NOERROR, NXDOMAIN was expected")


@pytest.mark.parametrize(
    ("record", "flags", "kind", "reason"),
    [
        ((IDENTITY,), 0x8580, "passed", "DNS NOERROR, identity 'ns1-g7'"),
        ((IDENTITY[:-4] + b"\x03\n\xff.",), 0x8580, "passed", "identity 'ns1\\n\ufffd.'"),
        ((), 0x8585, "failed", "DNS REFUSED, the server does not answer with its identity"),
        (
            (IDENTITY[:5] + b"\x01" + IDENTITY[6:],),
            0x8580,
            "failed",
            "does not answer with its identity",
        ),
        ((IDENTITY[:-4] + b"\x04-g7",), 0x8580, "failed", "a TXT string is cut off"),
    ],
)
def test_identity(record: tuple[bytes, ...], flags: int, kind: str, reason: str) -> None:
    reply = response(*record, flags=flags, question=IDENTITY_QUESTION)
    verdict = Dns(specs.DnsProbe(identity=True), 0x1234).evaluate(reply)
    assert verdict.kind == kind
    assert reason in verdict.reason
