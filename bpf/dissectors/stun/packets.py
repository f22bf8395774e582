# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of stun for tests."""

from __future__ import annotations

from testing.dissectors import Case


def stun(ufrag: str, kind: int = 1, before: bytes = b"") -> bytes:
    """Return a STUN message (RFC 8489, 5) with attributes before USERNAME."""
    name = f"{ufrag}:peer".encode()
    username = b"\0\6" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    body = before + username
    head = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442")
    return head + bytes(range(12)) + body


CASES = {
    "stun": Case(
        "stun",
        {"offset": 2},
        [
            lambda cookie: stun(f"ab{cookie.hex()}"),
            lambda cookie: stun(f"ab{cookie.hex().upper()}cd"),
            lambda cookie: stun(f"ab{cookie.hex()}", before=b"\x80\x22\0\5agent\0\0\0"),
        ],
        fresh=[
            b"",
            b"media",
            stun("abg123"),
            stun("ab0_1"),
            stun("ab"),
            stun("ab00c1", kind=0x0011),  # an indication
            stun("ab00c1")[:29],
            b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12) + b"\xff\xff\xff\xff" * 300,
        ],
    ),
}
