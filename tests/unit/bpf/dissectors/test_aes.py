# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""AES-128 decryption: round keys of the package, rounds of bpf/crypto."""

from __future__ import annotations

import ctypes

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.dissectors import aes

BLOCKS = st.binary(min_size=16, max_size=16)


def decrypt(functions: ctypes.CDLL, key: bytes, block: bytes) -> bytes:
    keys = (ctypes.c_uint64 * aes.KEY_WORDS)(*aes.decryption_words(key))
    buffer = ctypes.create_string_buffer(block, 16)
    functions.test_decrypt(keys, buffer)
    return buffer.raw


@pytest.mark.parametrize(
    ("key", "block", "plain"),
    [
        # FIPS 197, appendices B and C.1
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "3925841d02dc09fbdc118597196a0b32",
            "3243f6a8885a308d313198a2e0370734",
        ),
        (
            "000102030405060708090a0b0c0d0e0f",
            "69c4e0d86a7b0430d8cdb78070b4c55a",
            "00112233445566778899aabbccddeeff",
        ),
        # draft-ietf-quic-load-balancers-21, appendix B.2, without the first byte
        (
            "8f95f09245765f80256934e50c66207f",
            "4dd2d05a7b0de9b2b9907afb5ecf8cc3",
            "ed793a51d49b8f5f" + "ee080dbf48c0d1e5",
        ),
    ],
)
def test_published_vectors(functions: ctypes.CDLL, key: str, block: str, plain: str) -> None:
    found = decrypt(functions, bytes.fromhex(key), bytes.fromhex(block))
    assert found.hex() == plain


@given(key=BLOCKS, plain=BLOCKS)
def test_any_block(functions: ctypes.CDLL, key: bytes, plain: bytes) -> None:
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(plain)
    assert decrypt(functions, key, block) == plain


def test_the_last_expanded_key_comes_first() -> None:
    """FIPS 197, appendix A.1: w40 to w43."""
    words = aes.decryption_words(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert len(words) == aes.KEY_WORDS
    first = b"".join(word.to_bytes(8, "little") for word in words[:2])
    assert first.hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"
