# SPDX-License-Identifier: Apache-2.0
"""The DNS probe: one query (RFC 1035), or one for the server's identity (RFC 4892)."""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated
from udpgrm.probes.specs import DnsProbe

_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _RECURSION_DESIRED, _OPCODE = 0x8000, 0x0100, 0x7800
_INTERNET, _CHAOS = 1, 3
_TXT = 16
_TYPES = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": _TXT,
    "AAAA": 28,
    "SRV": 33,
    "DS": 43,
    "DNSKEY": 48,
    "SVCB": 64,
    "HTTPS": 65,
    "ANY": 255,
}
_RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
}
_MAX_NAME = 255


class Dns:
    """An exchange of a query and a well-formed response."""

    def __init__(self, spec: DnsProbe, number: Optional[int] = None) -> None:
        self._spec = spec
        self._id = int.from_bytes(os.urandom(2), "big") if number is None else number
        name = "id.server" if spec.identity else spec.name
        kind = _TXT if spec.identity else _type_number(spec.query_type)
        labels = [label.encode("ascii") for label in name.split(".") if label]
        encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        self._question = (
            tuple(label.lower() for label in labels),
            kind,
            _CHAOS if spec.identity else _INTERNET,
        )
        self.request = (
            _HEADER.pack(self._id, _RECURSION_DESIRED, 1, 0, 0, 0)
            + encoded
            + struct.pack("!HH", *self._question[1:])
        )

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept any rcode as a reply, unless the probe names one."""
        if len(reply) < _HEADER.size:
            return unrelated("too short for a DNS message")
        number, flags, questions, *records = _HEADER.unpack_from(reply)
        if number != self._id or not flags & _RESPONSE or flags & _OPCODE:
            return unrelated("not the response to this DNS query")
        try:
            position = _HEADER.size
            for _ in range(questions):
                name, position = _name(reply, position)
                kind, klass = struct.unpack_from("!HH", reply, position)
                position += 4
                if (name, kind, klass) != self._question:
                    return unrelated("a DNS response to another question")
            identity = self._walk(reply, position, records)
        except (ValueError, struct.error) as error:
            return failed(f"malformed DNS message: {error}")
        rcode = _RCODES.get(flags & 15, f"rcode {flags & 15}")
        if self._spec.rcode not in (None, rcode):
            return failed(f"DNS {rcode}, {self._spec.rcode} was expected")
        if not self._spec.identity:
            return passed(f"DNS {rcode}, {records[0]} answers")
        if identity is None:
            return failed(f"DNS {rcode}, the server does not answer with its identity")
        return passed(f"DNS {rcode}, identity {identity!r}")

    def _walk(self, reply: bytes, position: int, counts: list[int]) -> Optional[str]:
        """Read all records, to their ends; return the text of the answer to the question."""
        text = None
        for record in range(sum(counts)):
            name, position = _name(reply, position)
            kind, klass, _ttl, length = struct.unpack_from("!HHIH", reply, position)
            position += 10
            if position + length > len(reply):
                raise ValueError("a record is cut off")
            if record < counts[0] and kind == _TXT and (name, kind, klass) == self._question:
                text = _text(reply[position : position + length])
            position += length
        if position != len(reply):
            raise ValueError(f"{len(reply) - position} bytes after its end")
        return text


def _type_number(name: str) -> int:
    return _TYPES[name] if name in _TYPES else int(name[len("TYPE") :])


def _name(message: bytes, position: int) -> tuple[tuple[bytes, ...], int]:
    """Return a name in lower case, and its end. Compression only points back."""
    labels: list[bytes] = []
    after: Optional[int] = None
    length = 1
    while True:
        if position >= len(message):
            raise ValueError("a name is cut off")
        size = message[position]
        if size >= 0xC0:
            (pointer,) = struct.unpack_from("!H", message, position)
            after = position + 2 if after is None else after
            if pointer & 0x3FFF >= position:
                raise ValueError("a name points forward")
            position = pointer & 0x3FFF
            continue
        if size >= 0x40:
            raise ValueError(f"a label of type 0x{size >> 6:x}")
        position += 1
        if size == 0:
            return tuple(labels), position if after is None else after
        label = message[position : position + size]
        length += size + 1
        if len(label) < size or length > _MAX_NAME:
            raise ValueError("a name is cut off or too long")
        labels.append(label.lower())
        position += size


def _text(data: bytes) -> str:
    """Return the strings of a TXT record, joined."""
    parts: list[bytes] = []
    while data:
        size = data[0]
        if len(data) < size + 1:
            raise ValueError("a TXT string is cut off")
        parts.append(data[1 : size + 1])
        data = data[size + 1 :]
    return b"".join(parts).decode("utf-8", "replace")
