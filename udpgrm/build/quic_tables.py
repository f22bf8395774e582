# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The constants of programs for QUIC's Initial packets: struct quic_tables.

Computed from their definitions in FIPS 197 (AES), FIPS 180-4 (SHA-256) and
RFC 9001 (QUIC's use of TLS).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import isqrt

_WORD = 0xFFFFFFFF
_BLOCKS, _BLOCK_WORDS, _QUIC_BYTES = 16, 16, 2048
#: initial_salt of QUIC version 1: RFC 9001, 5.2.
_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_IPAD, _OPAD = 0x36, 0x5C

# blocks by index; the first four are those of enum key_block
_DCID, _KEY, _IV, _HP, _START, _SALT_INNER, _SALT_OUTER = range(7)
_LABEL_CLIENT, _LABEL_KEY, _LABEL_IV, _LABEL_HP = range(7, 11)
_DIGEST, _SECRET, _INNER, _OUTER = range(11, 15)


def _hmac(message: int, result: int) -> list[tuple[int, int, int, int]]:
    """Return the steps (state, message, result, pad) of an HMAC with the key in _INNER, _OUTER."""
    return [(_INNER, message, _DIGEST, 0), (_OUTER, _DIGEST, result, 0)]


#: _INNER and _OUTER for the key in _SECRET.
_KEYED = [(_START, _SECRET, _INNER, _IPAD), (_START, _SECRET, _OUTER, _OPAD)]
_STEPS = [
    (_SALT_INNER, _DCID, _DIGEST, 0),
    (_SALT_OUTER, _DIGEST, _SECRET, 0),  # initial_secret
    *_KEYED,
    *_hmac(_LABEL_CLIENT, _SECRET),  # client_initial_secret
    *_KEYED,
    *_hmac(_LABEL_KEY, _KEY),
    *_hmac(_LABEL_IV, _IV),
    *_hmac(_LABEL_HP, _HP),
]


def _primes() -> Iterator[int]:
    number = 2
    while True:
        if all(number % divisor for divisor in range(2, isqrt(number) + 1)):
            yield number
        number += 1


def _cube_root(number: int) -> int:
    low, high = 0, number
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


_FIRST_PRIMES = [prime for prime, _ in zip(_primes(), range(64))]
#: First 32 bits of the fractional parts of cube and square roots: FIPS 180-4, 4.2.2, 5.3.3.
_K = [_cube_root(prime << 96) & _WORD for prime in _FIRST_PRIMES]
_H = [isqrt(prime << 64) & _WORD for prime in _FIRST_PRIMES[:8]]


def _turn(word: int, bits: int) -> int:
    return (word >> bits | word << 32 - bits) & _WORD


def _compress(state: Sequence[int], block: bytes) -> list[int]:
    """Apply the compression function of SHA-256: FIPS 180-4, 6.2.2."""
    w = list(struct.unpack(">16I", block))
    for t in range(16, 64):
        far, near = w[t - 15], w[t - 2]
        w.append(
            w[t - 16]
            + w[t - 7]
            + (_turn(far, 7) ^ _turn(far, 18) ^ far >> 3)
            + (_turn(near, 17) ^ _turn(near, 19) ^ near >> 10)
            & _WORD
        )
    a, b, c, d, e, f, g, h = state
    for t in range(64):
        first = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + (e & f ^ ~e & g) + _K[t] + w[t]
        second = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = first + second & _WORD, a, b, c, d + first & _WORD, e, f, g
    return [old + new & _WORD for old, new in zip(state, (a, b, c, d, e, f, g, h))]


def _aes_columns() -> Iterator[int]:
    """Yield MixColumns(SubBytes(x)) for x in each of a column's rows: FIPS 197, 5.1."""
    # every byte but 0 is a power of 3; 246 is 1/3
    logarithms, power = {}, 1
    powers = []
    for exponent in range(255):
        powers.append(power)
        logarithms[power] = exponent
        power ^= power << 1 ^ (0x11B if power & 0x80 else 0)
    columns = []
    for byte in range(256):
        inverse = powers[-logarithms[byte] % 255] if byte else 0
        turned = inverse ^ inverse << 1 ^ inverse << 2 ^ inverse << 3 ^ inverse << 4
        substitute = turned & 0xFF ^ turned >> 8 ^ 0x63
        double = substitute << 1 ^ (0x11B if substitute & 0x80 else 0)
        columns.append(double << 24 | substitute << 16 | substitute << 8 | double ^ substitute)
    for column in columns:
        yield from (_turn(column, 8 * row) for row in range(4))


def _padded(message: bytes, before: int) -> bytes:
    """Return the last block of a hash, after `before` bytes: FIPS 180-4, 5.1.1."""
    length = struct.pack(">Q", 8 * (before + len(message)))
    return (message + b"\x80").ljust(56, b"\0") + length


def _label(name: bytes, length: int) -> bytes:
    """Return the input of HKDF-Expand for HKDF-Expand-Label of one block: RFC 8446, 7.1."""
    full = b"tls13 " + name
    info = struct.pack(">HB", length, len(full)) + full + b"\0"
    return _padded(info + b"\x01", 64)


def _with_pad(key: bytes, pad: int) -> bytes:
    return bytes(byte ^ pad for byte in key.ljust(64, b"\0"))


def _key_blocks() -> Iterator[int]:
    """Yield the initial blocks, 16 words each."""
    blocks = {
        _START: _H,
        _SALT_INNER: _compress(_H, _with_pad(_SALT, _IPAD)),
        _SALT_OUTER: _compress(_H, _with_pad(_SALT, _OPAD)),
    }
    for number, message in (
        (_LABEL_CLIENT, _label(b"client in", 32)),
        (_LABEL_KEY, _label(b"quic key", 16)),
        (_LABEL_IV, _label(b"quic iv", 12)),
        (_LABEL_HP, _label(b"quic hp", 16)),
        (_DIGEST, _padded(bytes(32), 64)),
    ):
        blocks[number] = list(struct.unpack(">16I", message))
    for number in range(_BLOCKS):
        words = blocks.get(number, [])
        yield from [*words, *[0] * (_BLOCK_WORDS - len(words))]


def contents() -> bytes:
    """Return a struct quic_tables of bpf/dissectors/bespoke/scratch.h, in native byte order."""
    words = [*_aes_columns(), *_K]
    parts = [struct.pack(f"={len(words)}I", *words)]
    parts += [bytes(step) for step in _STEPS]
    parts.append(struct.pack(f"={_BLOCKS * _BLOCK_WORDS}I", *_key_blocks()))
    parts += [bytes(_QUIC_BYTES), b"\x01" * _QUIC_BYTES]
    return b"".join(parts)
