# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""QUIC packets as clients send them: RFC 9000, RFC 9001, RFC 8446. Not the code under test."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

VERSION_1 = 1
VERSION_2 = 0x6B3343CF
PING = b"\x01"
_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _expand(secret: bytes, name: bytes, length: int) -> bytes:
    label = b"tls13 " + name
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return _hmac(secret, info + b"\1")[:length]


@dataclass(frozen=True)
class Keys:
    """A client's Initial keys."""

    key: bytes
    iv: bytes
    hp: bytes

    @classmethod
    def of(cls, dcid: bytes) -> Keys:
        secret = _expand(_hmac(_SALT, dcid), b"client in", 32)
        return cls(
            _expand(secret, b"quic key", 16),
            _expand(secret, b"quic iv", 12),
            _expand(secret, b"quic hp", 16),
        )

    def mask(self, sample: bytes) -> bytes:
        return Cipher(AES(self.hp), ECB()).encryptor().update(sample)


def varint(value: int, size: int = 0) -> bytes:
    """Return a variable-length integer, in its shortest form or in `size` bytes."""
    for bits, length in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * length - 2) and length >= size:
            return (bits << (8 * length - 2) | value).to_bytes(length, "big")
    raise ValueError(value)


def crypto(data: bytes, offset: int = 0) -> bytes:
    """Return a CRYPTO frame."""
    return b"\6" + varint(offset) + varint(len(data)) + data


def ack(ranges: int = 0, ecn: bool = False) -> bytes:
    """Return an ACK frame with further ranges."""
    numbers = [1000, 70_000, ranges, 3, *[5, 300] * ranges, *[1, 2, 3] * ecn]
    return (b"\3" if ecn else b"\2") + b"".join(varint(number) for number in numbers)


def padding(length: int) -> bytes:
    """Return PADDING frames."""
    return bytes(length)


def split(data: bytes, at: Sequence[int]) -> list[bytes]:
    """CRYPTO frames that end at these offsets, and one for the rest."""
    edges = [0, *at, len(data)]
    return [crypto(data[start:end], start) for start, end in zip(edges, edges[1:])]


def initial(
    frames: bytes,
    dcid: bytes = bytes.fromhex("8394c8f03e515708"),
    *,
    number: int = 2,
    number_bytes: int = 4,
    scid: bytes = b"",
    token: bytes = b"",
    version: int = VERSION_1,
    size: int = 1200,
    keys_of: bytes | None = None,
    first: int = 0xC0,
) -> bytes:
    """Return a protected Initial packet, its frames padded to `size` bytes of datagram.

    keys_of: the connection ID that its keys are from, another than dcid after
    the server's first answer.
    """
    head = bytes([first | number_bytes - 1]) + version.to_bytes(4, "big")
    head += bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid + varint(len(token)) + token
    overhead = len(head) + 2 + number_bytes + 16
    frames = frames.ljust(max(size - overhead, 4), b"\0")
    length = varint(number_bytes + len(frames) + 16, 2)
    head += length + number.to_bytes(number_bytes, "big")
    keys = Keys.of(dcid if keys_of is None else keys_of)
    nonce = bytes(a ^ b for a, b in zip(keys.iv, number.to_bytes(12, "big")))
    packet = bytearray(head + AESGCM(keys.key).encrypt(nonce, frames, head))
    number_at = len(head) - number_bytes
    mask = keys.mask(bytes(packet[number_at + 4 : number_at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for position in range(number_bytes):
        packet[number_at + position] ^= mask[1 + position]
    return bytes(packet)


def extension(kind: int, data: bytes) -> bytes:
    """Return a TLS extension."""
    return kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def server_name(name: bytes, kind: int = 0) -> bytes:
    """Return the extension server_name, with one name."""
    entry = bytes([kind]) + len(name).to_bytes(2, "big") + name
    return extension(0, len(entry).to_bytes(2, "big") + entry)


def client_hello(extensions: Iterable[bytes], session: bytes = b"", suites: int = 3) -> bytes:
    """Return a TLS ClientHello with these extensions."""
    content = b"".join(extensions)
    body = b"\3\3" + bytes(range(32)) + bytes([len(session)]) + session
    body += (2 * suites).to_bytes(2, "big") + bytes.fromhex("1301") * suites + b"\1\0"
    body += len(content).to_bytes(2, "big") + content
    return b"\1" + len(body).to_bytes(3, "big") + body


def hello(name: bytes, before: int = 2, size: int = 0) -> bytes:
    """Return a ClientHello for a name, behind some extensions and before one of `size` bytes."""
    others = [extension(0x0A0A + position, bytes(position)) for position in range(before)]
    return client_hello([*others, server_name(name), extension(51, bytes(size))])


def short(dcid: bytes, size: int = 40) -> bytes:
    """Return a packet with a short header."""
    return (b"\x40" + dcid).ljust(size, b"\x55")


def long(dcid: bytes, kind: int = 2, version: int = VERSION_1, size: int = 100) -> bytes:
    """Return a packet with a long header; kind: 0 Initial, 1 0-RTT, 2 Handshake, 3 Retry."""
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big") + bytes([len(dcid)])
    return (head + dcid).ljust(size, b"\x55")


def mutated(packet: bytes, chance: random.Random) -> bytes:
    """Return a packet with some of its bytes changed, cut out or put in."""
    changed = bytearray(packet)
    for _ in range(chance.randrange(1, 6)):
        # mostly in the header
        at = chance.randrange(chance.choice((len(changed), min(60, len(changed)))))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.choice((0, 1, 0x3F, 0x7F, 0x80, 0xC0, 0xFF))
        elif kind == 2:
            del changed[at : at + chance.randrange(1, 40)]
        else:
            changed[at:at] = chance.randbytes(chance.randrange(1, 40))
        if len(changed) < 24:
            break
    return bytes(changed)
