# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the reader of the part of a QUIC header that is not encrypted."""

from __future__ import annotations

import pytest

from tests.unit.bpf.dissectors.bespoke.code import Code
from tests.unit.bpf.dissectors.bespoke.packets import VERSION_1, VERSION_2, long, short

OURS = bytes.fromhex("01abcd0003060708")


@pytest.mark.parametrize("linear", [None, 8])
@pytest.mark.parametrize(
    "packet",
    [
        short(OURS),
        *(long(OURS, kind) for kind in range(4)),
        long(OURS.ljust(20, b"\7")),
        long(OURS, version=VERSION_2),
        long(OURS, version=0),
        long(OURS, kind=0, version=0xFF00001D),
    ],
)
def test_cookie(code: Code, packet: bytes, linear: int | None) -> None:
    """Find the cookie in the linear part of a packet or beyond."""
    found = code.connection(packet, linear)
    assert found is not None
    assert (found.is_ours, found.cookie, found.app) == (True, 0xABCD, 3)


def test_initial(code: Code) -> None:
    for kind in range(4):
        for version in (0, VERSION_1, VERSION_2, 0x01000001):
            found = code.connection(long(OURS, kind, version))
            assert found is not None
            assert found.is_initial == (kind == 0 and version == VERSION_1)
    found = code.connection(short(OURS))
    assert found is not None and not found.is_initial


@pytest.mark.parametrize("length", [*range(24), 255])
def test_length_of_dcid(code: Code, length: int) -> None:
    for kind in (0, 2):
        packet = bytearray(long(OURS.ljust(20, b"\7"), kind))
        packet[5] = length
        found = code.connection(bytes(packet))
        assert found is not None
        known = 8 <= length <= 20
        assert (found.is_ours, found.is_initial) == (known, known and kind == 0)


def test_other_connection_ids(code: Code) -> None:
    for first in (0, 2, 0x41, 0x81, 255):
        for packet in (short(bytes([first]) + OURS[1:]), long(bytes([first]) + OURS[1:])):
            found = code.connection(packet)
            assert found is not None and not found.is_ours


def test_shortest(code: Code) -> None:
    # 32 bytes with UDP's header
    for packet in (short(OURS, 24), long(OURS, size=24)):
        assert code.connection(packet) is not None
        assert code.connection(packet[:23]) is None
