# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of quic for tests."""

from __future__ import annotations

from testing.dissectors import Case

CASES = {
    "quic": Case(
        "quic",
        {"cid_length": 8, "offset": 3},
        [
            lambda cookie: b"\x40abc" + cookie + b"xyz-payload",
            lambda cookie: b"\x00abc" + cookie + b"xyz",  # a greased fixed bit
            lambda cookie: b"\xe0\0\0\0\1\10abc" + cookie + b"xyz\4peer",
        ],
        fresh=[b"\xc0\0\0\0\1\x07abcdefghijklm", b"\xc0\0\0\0\1\x14" + bytes(30)],
        short=[b"", b"\x40abcdefg", b"\xc0\0\0\0\1", b"\xc0\0\0\0\1\10abcdefg"],
    ),
    "quic, last bytes of long packets": Case(
        "quic",
        {"cid_length": 20, "offset": 18},
        [lambda cookie: b"\x40" + bytes(18) + cookie + bytes(9000)],
    ),
}
