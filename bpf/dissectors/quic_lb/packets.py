# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of quic_lb for tests."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from testing.dissectors import Case

KEY = "8f95f09245765f80256934e50c66207f"


def encrypted(server_id: bytes, nonce: bytes) -> bytes:
    """Return an encrypted server ID and nonce of QUIC-LB."""
    cipher = Cipher(algorithms.AES(bytes.fromhex(KEY)), modes.ECB()).encryptor()
    return cipher.update(server_id + nonce)


CASES = {
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
}
