# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Read an Initial packet a second time: by the RFCs, with Python's own means.

RFC 9000, 12.4, 17.2.2 and 19; RFC 9001, 5; RFC 8446, 4.1.2; RFC 6066, 3. Where the programs of
bpf/dissectors/bespoke look at less, so does this: the tag is not verified, what lies behind 2,048
bytes of a payload or a stream has not come, a server name is among the first 64 extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from tests.unit.bpf.dissectors.bespoke.packets import Keys
from udpgrm.abi import HOSTNAME_BYTES

ROOM = 2048
EXTENSIONS = 64
TAG = 16
SAMPLE_AT, SAMPLE = 4, 16


class Garbled(Exception):
    """Raised if a packet cannot be decrypted, or has no frames of an Initial packet."""


class Ended(Exception):
    """A number or a frame is longer than what is there."""


@dataclass
class Stream:
    """The beginning of the CRYPTO stream: its bytes by their offsets, as far as they have come."""

    bytes: dict[int, int] = field(default_factory=dict)

    def number(self, at: int, size: int) -> int:
        """Return a number in network order. Raises KeyError."""
        return int.from_bytes(bytes(self.bytes[at + item] for item in range(size)), "big")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises Ended."""
    if at >= len(data):
        raise Ended
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise Ended
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def decrypted(packet: bytes) -> tuple[bytes, bool]:
    """Return the payload, as far as there is room, and whether that is all. Raises Garbled."""
    try:
        dcid_length = packet[5]
        dcid = packet[6 : 6 + dcid_length]
        if not 8 <= dcid_length <= 20 or len(dcid) < dcid_length:
            raise Garbled
        at = 6 + dcid_length
        if packet[at] > 20:
            raise Garbled
        at += 1 + packet[at]
        token, at = varint(packet, at)
        length, number_at = varint(packet, at + token)
    except (IndexError, Ended):
        raise Garbled from None
    if number_at + length > len(packet) or length < SAMPLE_AT + SAMPLE:
        raise Garbled
    keys = Keys.of(dcid)
    mask = keys.mask(packet[number_at + SAMPLE_AT : number_at + SAMPLE_AT + SAMPLE])
    first = packet[0] ^ mask[0] & 0x0F
    size = (first & 3) + 1
    if first & 0x0C or length <= size + TAG:
        raise Garbled
    number = bytes(a ^ b for a, b in zip(packet[number_at:], mask[1 : 1 + size]))
    nonce = bytes(a ^ b for a, b in zip(keys.iv, number.rjust(12, b"\0")))
    text = packet[number_at + size : number_at + length - TAG]
    plain = Cipher(AES(keys.key), CTR(nonce + b"\0\0\0\2")).decryptor().update(text)
    return plain[:ROOM], len(plain) <= ROOM


def crypto_stream(payload: bytes, is_whole: bool) -> Stream:
    """Return what CRYPTO frames hold. Raises Garbled; frames may be cut where there is no room."""
    stream, at = Stream(), 0
    try:
        while at < len(payload):
            kind, at = varint(payload, at)
            if kind == 6:
                offset, at = varint(payload, at)
                size, at = varint(payload, at)
                there = payload[at : at + size]
                if offset < ROOM:
                    stream.bytes.update(enumerate(there, offset))
                if len(there) < size:
                    raise Ended
                at += size
            elif kind in (2, 3):
                for _ in range(2):
                    _, at = varint(payload, at)
                ranges, at = varint(payload, at)
                for _ in range(1 + 2 * ranges + (3 if kind == 3 else 0)):
                    _, at = varint(payload, at)
            elif kind == 0x1C:
                break
            elif kind > 1:
                raise Garbled
    except Ended:
        if is_whole:
            raise Garbled from None
    stream.bytes = {at: byte for at, byte in stream.bytes.items() if at < ROOM}
    return stream


def server_name(stream: Stream) -> bytes | None:
    """Return the name in a ClientHello; None: there is none, or it has not come."""
    try:
        if stream.number(0, 1) != 1:
            return None
        at = 38  # behind type, length, version and random
        at += 1 + stream.number(at, 1)  # session
        at += 2 + stream.number(at, 2)  # cipher suites
        at += 1 + stream.number(at, 1)  # compression
        end = at + 2 + stream.number(at, 2)
        at += 2
        for _ in range(EXTENSIONS):
            if at >= end:
                return None
            kind, length = stream.number(at, 2), stream.number(at + 2, 2)
            if kind == 0:
                if stream.number(at + 6, 1) != 0:
                    return None
                size = stream.number(at + 7, 2)
                if not 0 < size < HOSTNAME_BYTES:
                    return None
                return bytes(stream.number(at + 9 + item, 1) for item in range(size))
            at += 4 + length
    except KeyError:
        pass
    return None


def read(packet: bytes, names: Mapping[bytes, int]) -> tuple[int | None, Stream]:
    """Return the application, None when the packet is garbled, and the stream."""
    try:
        stream = crypto_stream(*decrypted(packet))
    except Garbled:
        return None, Stream()
    return names.get(server_name(stream) or b"", 0), stream
