# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Round keys of AES-128 for bpf/crypto/aes128_decrypt.h (FIPS 197).

The round keys of the equivalent inverse cipher (5.3.5): the last first, all
but the outer ones through InvMixColumns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

KEY_BYTES = 16
_ROUNDS = 10
_BLOCK = 16
#: 64-bit words of all round keys.
KEY_WORDS = (_ROUNDS + 1) * _BLOCK // 8


def _times(a: int, b: int) -> int:
    """Return the product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _substitute(byte: int) -> int:
    """Apply SubBytes: the inverse (a^254), then the affine map."""
    inverse, power = 1, byte
    for _ in range(7):
        power = _times(power, power)
        inverse = _times(inverse, power)
    result = 0x63
    for shift in range(5):
        result ^= inverse << shift | inverse >> (8 - shift)
    return result & 0xFF


def _round_keys(key: bytes) -> list[bytes]:
    words = [key[at : at + 4] for at in range(0, KEY_BYTES, 4)]
    constant = 1
    while len(words) < 4 * (_ROUNDS + 1):
        word = words[-1]
        if len(words) % 4 == 0:
            word = bytes(_substitute(byte) for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times(constant, 2)
        words.append(bytes(a ^ b for a, b in zip(word, words[-4])))
    return [b"".join(words[at : at + 4]) for at in range(0, len(words), 4)]


def _inverse_mix_columns(block: bytes) -> bytes:
    mixed = bytearray()
    for at in range(0, _BLOCK, 4):
        for row in range(4):
            byte = 0
            for step, factor in enumerate((0x0E, 0x0B, 0x0D, 0x09)):
                byte ^= _times(block[at + (row + step) % 4], factor)
            mixed.append(byte)
    return bytes(mixed)


def _as_words(blocks: Iterable[bytes]) -> list[int]:
    raw = b"".join(blocks)
    return [int.from_bytes(raw[at : at + 8], sys.byteorder) for at in range(0, len(raw), 8)]


def decryption_words(key: bytes) -> list[int]:
    """Return the round keys for decryption, two 64-bit words in native order each."""
    first, *middle, last = reversed(_round_keys(key))
    return _as_words([first, *map(_inverse_mix_columns, middle), last])
