# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the fields that the stun dissector reads from a packet."""

from __future__ import annotations

import ctypes
import string

from hypothesis import given
from hypothesis import strategies as st

MAGIC = bytes.fromhex("2112a442")
ATTRIBUTES = 8


def ufrag(functions: ctypes.CDLL, payload: bytes, offset: int = 0, linear: int = 0) -> int:
    return int(functions.test_ufrag(payload, len(payload), linear, offset))


def attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def request(*attributes: bytes) -> bytes:
    body = b"".join(attributes)
    return b"\0\1" + len(body).to_bytes(2, "big") + MAGIC + bytes(12) + body


def test_hex_digits(functions: ctypes.CDLL) -> None:
    for code in range(256):
        value = functions.test_hex_digit(code)
        if chr(code) in string.hexdigits:
            assert value == int(chr(code), 16)
        else:
            assert value > 15, chr(code)


@given(
    cookie=st.integers(0, 0xFFFF),
    before=st.lists(
        st.tuples(st.integers(7, 0xFFFF), st.binary(max_size=40)), max_size=ATTRIBUTES + 1
    ),
    offset=st.integers(0, 20),
    upper=st.booleans(),
)
def test_cookies(
    functions: ctypes.CDLL,
    cookie: int,
    before: list[tuple[int, bytes]],
    offset: int,
    upper: bool,
) -> None:
    digits = f"{cookie:04X}" if upper else f"{cookie:04x}"
    name = attribute(6, b"/" * offset + digits.encode() + b"tail:peer")
    payload = request(*(attribute(*item) for item in before), name)
    expected = cookie if len(before) < ATTRIBUTES else -1
    for linear in (0, len(payload)):
        assert ufrag(functions, payload, offset, linear) == expected


@given(payload=st.binary(max_size=200), cut=st.integers(0, 60), offset=st.integers(0, 252))
def test_nothing_is_read_beyond_the_packet(
    functions: ctypes.CDLL, payload: bytes, cut: int, offset: int
) -> None:
    whole = request(attribute(6, b"00a1:peer"))[:cut] + payload
    found = ufrag(functions, whole, offset, len(whole))
    assert found == ufrag(functions, whole, offset)
    assert -1 <= found <= 0xFFFF


def test_what_is_no_request_of_ice(functions: ctypes.CDLL) -> None:
    good = request(attribute(6, b"00a1:peer"))
    assert ufrag(functions, good) == 0xA1
    for position in range(8):  # type and magic cookie; the length is not looked at
        bad = bytearray(good)
        bad[position] ^= 1
        expected = 0xA1 if position in (2, 3) else -1
        assert ufrag(functions, bytes(bad)) == expected, position
    assert ufrag(functions, request(attribute(6, b"00a"))) == -1
    assert ufrag(functions, request(attribute(6, b"00a1"))) == 0xA1
    assert ufrag(functions, request(attribute(6, b"00a1")), offset=1) == -1
    assert ufrag(functions, request()) == -1
