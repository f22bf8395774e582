# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The STUN probe against the sample messages of RFC 5769."""

from __future__ import annotations

import struct

import pytest

from udpgrm.probes.stun import Stun

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
#: RFC 5769, section 2.2.
OVER_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
#: RFC 5769, section 2.3.
OVER_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def message(kind: int, attributes: bytes, transaction: bytes = TRANSACTION) -> bytes:
    return struct.pack("!HHI", kind, len(attributes), 0x2112A442) + transaction + attributes


def test_request() -> None:
    """RFC 8489, section 5: type, length, magic cookie, transaction."""
    assert Stun(TRANSACTION).request.hex() == "000100002112a442" + TRANSACTION.hex()
    assert Stun().request[8:] != Stun().request[8:]


def test_the_sample_responses() -> None:
    stun = Stun(TRANSACTION)
    verdict = stun.evaluate(OVER_IPV4)
    assert (verdict.kind, verdict.reason) == ("passed", "STUN mapped address 192.0.2.1:32853")
    verdict = stun.evaluate(OVER_IPV6)
    assert verdict.kind == "passed"
    assert verdict.reason.endswith(" [2001:db8:1234:5678:11:2233:4455:6677]:32853")


@pytest.mark.parametrize(
    ("sample", "attributes"), [(OVER_IPV4, (20, 36, 48, 72)), (OVER_IPV6, (20, 36, 60, 84))]
)
def test_every_bit_of_the_samples_counts(sample: bytes, attributes: tuple[int, ...]) -> None:
    """Refuse a changed bit of header or values, which the fingerprint covers.

    Other attributes' types and lengths may hide it, as any middlebox could.
    """
    headers = {start + byte for start in attributes for byte in range(4)}
    for byte in set(range(len(sample))) - headers:
        for bit in range(8):
            changed = bytearray(sample)
            changed[byte] ^= 1 << bit
            assert Stun(TRANSACTION).evaluate(bytes(changed)).kind != "passed", (byte, bit)


UNAUTHORIZED = b"\x00\x09\x00\x10\x00\x00\x04\x01Unauthorized"


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (message(0x0111, UNAUTHORIZED), "passed", "STUN error 401 Unauthorized"),
        (message(0x0111, b""), "failed", "no ERROR-CODE"),
        (message(0x0101, b""), "failed", "no XOR-MAPPED-ADDRESS"),
        (message(0x0101, b"\x00\x20\x00\x08\x00\x03" + bytes(6)), "failed", "of family 3"),
        (message(0x0101, b"\x00\x20\x00\x08\x00\x02" + bytes(6)), "failed", "with 4 bytes"),
        (message(0x0101, b"\x00\x20\x00\x08\x00\x01"), "failed", "is cut off"),
        (message(0x0101, b"\x00\x20\x00\x02\x00\x01\x00\x00"), "failed", "malformed"),
        (OVER_IPV4 + b"\0\0\0\0", "failed", "its STUN length is 60, 64 bytes came"),
        (OVER_IPV4[:-4], "failed", "its STUN length is 60, 56 bytes came"),
        (message(0x0011, b""), "unrelated", "type 0x0011, no response to the request"),
        (message(0x0101, b"", bytes(12)), "unrelated", "not of this STUN transaction"),
        (OVER_IPV4[:19], "unrelated", "too short"),
    ],
)
def test_replies(reply: bytes, kind: str, reason: str) -> None:
    verdict = Stun(TRANSACTION).evaluate(reply)
    assert verdict.kind == kind
    assert reason in verdict.reason
