# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of wireguard for tests."""

from __future__ import annotations

from testing.dissectors import Case

CASES = {
    "wireguard": Case(
        "wireguard",
        {},
        [
            lambda cookie: b"\4\0\0\0" + cookie[::-1] + b"\7\7" + bytes(24),
            lambda cookie: b"\3\0\0\0" + cookie[::-1] + b"\7\7" + bytes(56),
            lambda cookie: b"\2\0\0\0ours" + cookie[::-1] + b"\7\7" + bytes(80),
        ],
        fresh=[b"\1\0\0\0" + bytes(144), b"\0", b"\5" + bytes(40), b"\xff" * 40],
        short=[b"", b"\4\0\0\0\1\2\3", b"\2\0\0\0ours\1\2\3"],
    ),
    "wireguard, boringtun": Case(
        "wireguard",
        {"shift": 8},
        [lambda cookie: b"\4\0\0\0\x33" + cookie[::-1] + b"\7" + bytes(24)],
    ),
}
