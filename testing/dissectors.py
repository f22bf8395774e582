# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of the named dissectors that are shipped; those of keyed ones are in their tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = "8f95f09245765f80256934e50c66207f"


def encrypted(server_id: bytes, nonce: bytes) -> bytes:
    """Return an encrypted server ID and nonce of QUIC-LB."""
    cipher = Cipher(algorithms.AES(bytes.fromhex(KEY)), modes.ECB()).encryptor()
    return cipher.update(server_id + nonce)


def stun(ufrag: str, kind: int = 1, before: bytes = b"") -> bytes:
    """Return a STUN message (RFC 8489, 5) with attributes before USERNAME."""
    name = f"{ufrag}:peer".encode()
    username = b"\0\6" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    body = before + username
    head = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442")
    return head + bytes(range(12)) + body


@dataclass(frozen=True)
class Case:
    """A dissector with its packets.

    named: packets that carry a cookie. fresh: new flows. short: what ends too soon.
    """

    dissector: str
    parameters: dict[str, Any]
    named: list[Callable[[bytes], bytes]]
    fresh: list[bytes] = field(default_factory=list)
    short: list[bytes] = field(default_factory=list)


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
    "quic_lb": Case(
        "quic_lb",
        {"config_rotation": 1, "server_id_length": 5, "nonce_length": 4},
        [
            lambda cookie: b"\x40\x20sid" + cookie + b"nonc-payload",
            lambda cookie: b"\x40\x3fsid" + cookie + b"nonc",
            lambda cookie: b"\xe0\0\0\0\1\12\x2asid" + cookie + b"nonc",
            lambda cookie: b"\xe0\0\0\0\1\14\x2asid" + cookie + b"nonc++",
        ],
        fresh=[
            b"\x40\x40sidccnonc",  # another configuration
            b"\x40\xe0sidccnonc",  # one of no configuration
            b"\xc0\0\0\0\1\11\x20sidccnon",
            b"\xc0\0\0\0\1\0\0",
        ],
        short=[b"", b"\x40", b"\x40\x20sidccnon", b"\xc0\0\0\0\1\12\x20sidcc"],
    ),
    "quic_lb, self-encoded length": Case(
        "quic_lb",
        {"server_id_length": 3, "nonce_length": 4, "self_encoded_length": True},
        [
            lambda cookie: b"\x40\x07s" + cookie + b"nonc-payload",
            lambda cookie: b"\xe0\0\0\0\1\10\x07s" + cookie + b"nonc",
            lambda cookie: b"\x40\x09s" + cookie + b"nonc++",
        ],
        fresh=[b"\x40\x06sccnonc", b"\xe0\0\0\0\1\10\x08sccnonc"],
    ),
    "quic_lb, single pass": Case(
        "quic_lb",
        {"config_rotation": 2, "server_id_length": 8, "nonce_length": 8, "key": KEY},
        [
            lambda cookie: b"\x40\x50" + encrypted(b"server" + cookie, b"nonce123"),
            lambda cookie: b"\xc0\0\0\0\1\x11\x50" + encrypted(b"SERVER" + cookie, b"NONCE123"),
        ],
        fresh=[b"\x40\x10" + bytes(16), b"\xc0\0\0\0\1\x10\x50" + bytes(15)],
        short=[b"\x40\x50" + bytes(15), b"\x40"],
    ),
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
    "dtls_cid": Case(
        "dtls_cid",
        {"cid_length": 4, "offset": 1},
        [
            lambda cookie: b"\x19\xfe\xfd\0\1\0\0\0\0\0\1a" + cookie + b"b\0\1x",
            lambda cookie: b"\x3fa" + cookie + b"b\0\1\0\1x",
            lambda cookie: b"\x30a" + cookie + b"b\1x",
        ],
        fresh=[
            b"\x16\xfe\xfd" + bytes(60),  # a handshake
            b"\x17\xfe\xfd\0\1\0\0\0\0\0\1" + bytes(8),  # a record of a connection without ID
            b"\x2e" + bytes(20),  # the same of DTLS 1.3
        ],
        short=[b"", b"\x19\xfe\xfd\0\1\0\0\0\0\0\1abc", b"\x30abc"],
    ),
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
