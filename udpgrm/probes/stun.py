# SPDX-License-Identifier: Apache-2.0
"""The STUN probe: a binding request (RFC 8489), or an Allocate request of TURN (RFC 8656)."""

from __future__ import annotations

import ipaddress
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated

_HEADER = struct.Struct("!HHI12s")
_MAGIC = 0x2112A442
_BINDING, _ALLOCATE = 0x0001, 0x0003
_SUCCESS, _ERROR = 0x0100, 0x0110
#: REQUESTED-TRANSPORT: UDP; LIFETIME: none, so that nothing remains where no account is needed.
_ALLOCATION = bytes.fromhex("0019000411000000000d000400000000")
_ERROR_CODE, _XOR_MAPPED_ADDRESS, _FINGERPRINT = 0x0009, 0x0020, 0x8028
_FINGERPRINT_XOR = 0x5354554E


class Stun:
    """An exchange of a request and a response to the same transaction."""

    def __init__(self, transaction: Optional[bytes] = None, allocate: bool = False) -> None:
        self._method = _ALLOCATE if allocate else _BINDING
        self._transaction = transaction or os.urandom(12)
        attributes = _ALLOCATION if allocate else b""
        head = _HEADER.pack(self._method, len(attributes), _MAGIC, self._transaction)
        self.request = head + attributes

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept any response: with an error response the server lives, too."""
        if len(reply) < _HEADER.size:
            return unrelated("too short for a STUN message")
        kind, length, magic, transaction = _HEADER.unpack_from(reply)
        if magic != _MAGIC or transaction != self._transaction:
            return unrelated("not of this STUN transaction")
        if kind not in (self._method | _SUCCESS, self._method | _ERROR):
            return unrelated(f"STUN message of type 0x{kind:04x}, no response to the request")
        if length != len(reply) - _HEADER.size:
            return failed(f"its STUN length is {length}, {len(reply) - _HEADER.size} bytes came")
        try:
            attributes = dict(_attributes(reply))
            if kind & _ERROR == _ERROR:
                return passed(f"STUN error {_error(reply, attributes)}")
            return passed(f"STUN mapped address {self._mapped(reply, attributes)}")
        except (ValueError, struct.error) as error:
            return failed(f"malformed STUN message: {error}")

    def _mapped(self, reply: bytes, attributes: dict[int, tuple[int, int]]) -> str:
        if _XOR_MAPPED_ADDRESS not in attributes:
            raise ValueError("no XOR-MAPPED-ADDRESS")
        start, end = attributes[_XOR_MAPPED_ADDRESS]
        family, port = struct.unpack_from("!xBH", reply[start:end])
        sizes = {1: 4, 2: 16}
        raw = reply[start + 4 : end]
        if len(raw) != sizes.get(family):
            raise ValueError(f"XOR-MAPPED-ADDRESS of family {family} with {len(raw)} bytes")
        mask = (struct.pack("!I", _MAGIC) + self._transaction)[: len(raw)]
        ip = ipaddress.ip_address(bytes(a ^ b for a, b in zip(raw, mask)))
        number = port ^ (_MAGIC >> 16)
        return f"{ip}:{number}" if ip.version == 4 else f"[{ip}]:{number}"


def _attributes(message: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield (type, (start, end)) of each; of several of one type, callers keep the last."""
    position = _HEADER.size
    while position < len(message):
        kind, length = struct.unpack_from("!HH", message, position)
        start, end = position + 4, position + 4 + length
        position = start + (length + 3) // 4 * 4
        if position > len(message):
            raise ValueError(f"attribute 0x{kind:04x} is cut off")
        if kind == _FINGERPRINT:
            (given,) = struct.unpack_from("!I", message[start:end])
            if given != zlib.crc32(message[: start - 4]) ^ _FINGERPRINT_XOR:
                raise ValueError("FINGERPRINT does not fit")
        yield kind, (start, end)


def _error(reply: bytes, attributes: dict[int, tuple[int, int]]) -> str:
    if _ERROR_CODE not in attributes:
        raise ValueError("no ERROR-CODE")
    start, end = attributes[_ERROR_CODE]
    hundreds, rest = struct.unpack_from("!xxBB", reply[start:end])
    phrase = reply[start + 4 : end].decode("utf-8", "replace")
    return f"{(hundreds & 7) * 100 + rest} {phrase}".strip()
