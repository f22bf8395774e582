# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Published vectors, and random values against the standard library and OpenSSL."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.dissectors.bespoke.code import Code
from tests.unit.bpf.dissectors.bespoke.packets import Keys
from tests.unit.bpf.support import evaluate
from udpgrm.build import quic_tables
from udpgrm.state import layout

#: FIPS 180-4, 5.3.3.
H = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")


def sha256(code: Code, message: bytes) -> bytes:
    """SHA-256 of a message, by the code's compression function."""
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64)
    padded += struct.pack(">Q", 8 * len(message))
    state = H
    for start in range(0, len(padded), 64):
        state = code.sha256_block(state, padded[start : start + 64])
    return state


def test_sha256_vectors(code: Code) -> None:
    # NIST's examples for FIPS 180-4: one block, two blocks
    assert sha256(code, b"abc").hex() == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    assert sha256(code, two_blocks).hex() == (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    )


@given(message=st.binary(max_size=300))
def test_sha256(code: Code, message: bytes) -> None:
    assert sha256(code, message) == hashlib.sha256(message).digest()


def test_hkdf_vector(code: Code) -> None:
    """RFC 5869, A.1: HMAC and HKDF out of the compressions."""

    def hmac(key: bytes, message: bytes) -> bytes:
        padded = key.ljust(64, b"\0")
        inner = sha256(code, bytes(byte ^ 0x36 for byte in padded) + message)
        return sha256(code, bytes(byte ^ 0x5C for byte in padded) + inner)

    secret = hmac(bytes.fromhex("000102030405060708090a0b0c"), b"\x0b" * 22)
    assert secret.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    first = hmac(secret, info + b"\1")
    output = first + hmac(secret, first + info + b"\2")
    assert output[:42].hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_aes128_vectors(code: Code) -> None:
    # FIPS 197, appendix C.1
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert code.aes128(bytes(range(16)), plain)[1].hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    # appendices A.1 and B
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    round_keys, encrypted = code.aes128(key, bytes.fromhex("3243f6a8885a308d313198a2e0370734"))
    assert encrypted.hex() == "3925841d02dc09fbdc118597196a0b32"
    assert round_keys[16:32].hex() == "a0fafe1788542cb123a339392a6c7605"
    assert round_keys[-16:].hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


@given(key=st.binary(min_size=16, max_size=16), block=st.binary(min_size=16, max_size=16))
def test_aes128(code: Code, key: bytes, block: bytes) -> None:
    assert code.aes128(key, block)[1] == Cipher(AES(key), ECB()).encryptor().update(block)


def test_keys_vector(code: Code) -> None:
    # RFC 9001, appendix A.1
    key, iv, hp = code.keys(bytes.fromhex("8394c8f03e515708"))
    assert key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert hp.hex() == "9f50449e04a0e810283a1e9933adedd2"


@given(dcid=st.binary(min_size=8, max_size=20))
def test_keys(code: Code, dcid: bytes) -> None:
    assert Keys(*code.keys(dcid)) == Keys.of(dcid)


def test_sizes(tmp_path: Path) -> None:
    includes = "#include <stddef.h>\n#include <linux/bpf.h>\n"
    includes += "#define bpf_pseudo_fd(kind, number) (number)\n"
    includes += '#include "dissectors/bespoke/scratch.h"'
    sizes = evaluate(
        tmp_path, includes, ["sizeof(struct quic_tables)", "sizeof(struct quic_scratch)"]
    )
    assert list(sizes.values()) == [layout.QUIC_TABLES_BYTES, layout.QUIC_SCRATCH_BYTES]
    assert len(quic_tables.contents()) == layout.QUIC_TABLES_BYTES
