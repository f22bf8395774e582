# SPDX-License-Identifier: Apache-2.0
"""The QUIC probe without cryptography: Version Negotiation (RFC 8999, RFC 9000 section 6)."""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated

#: One of the reserved versions (RFC 9000, section 15).
VERSION = 0x1A2A3A4A
_SIZE = 1200  # shorter datagrams need not be answered (RFC 9000, section 5.2.2)
_LONG_FIXED = 0xC0
_ID = 8


def _connection_id() -> bytes:
    # a first byte of 1 would be a udpgrm cookie to the BESPOKE dissector
    first, *others = os.urandom(_ID)
    return bytes([0x80 | first, *others])


class VersionNegotiation:
    """An exchange of a long header of an unknown version and Version Negotiation."""

    def __init__(self, destination: Optional[bytes] = None, source: Optional[bytes] = None) -> None:
        self._destination = destination or _connection_id()
        self._source = source or _connection_id()
        header = struct.pack("!BI", _LONG_FIXED, VERSION)
        for identifier in (self._destination, self._source):
            header += bytes([len(identifier)]) + identifier
        self.request = header.ljust(_SIZE, b"\0")

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept swapped connection ids and a list of versions."""
        try:
            first, version = struct.unpack_from("!BI", reply)
            destination, position = _opaque(reply, 5)
            source, position = _opaque(reply, position)
        except (struct.error, ValueError):
            return unrelated("too short for a QUIC long header")
        if not first & 0x80:
            return unrelated("not a QUIC long header")
        if (destination, source) != (self._source, self._destination):
            return unrelated("a QUIC packet with other connection ids")
        if version:
            return failed(f"a QUIC packet of version 0x{version:08x}, no Version Negotiation")
        rest = reply[position:]
        if not rest or len(rest) % 4:
            return failed(f"Version Negotiation with {len(rest)} bytes of versions")
        versions = struct.unpack(f"!{len(rest) // 4}I", rest)
        if VERSION in versions:
            return failed("Version Negotiation lists the version it refuses")
        return passed("Version Negotiation, " + " ".join(f"0x{item:08x}" for item in versions))


def _opaque(message: bytes, position: int) -> tuple[bytes, int]:
    if position >= len(message):
        raise ValueError
    start, end = position + 1, position + 1 + message[position]
    if end > len(message):
        raise ValueError
    return message[start:end], end
