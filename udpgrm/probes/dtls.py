# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The DTLS probe: a ClientHello of DTLS 1.2 (RFC 6347), whose answer begins a handshake.

A server that asks for a cookie keeps nothing of the probe; another one drops the handshake.
"""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated

_RECORD = struct.Struct("!BHHHIH")
_HANDSHAKE = struct.Struct("!B3sH3s3s")
_DTLS_1_0, _DTLS_1_2 = 0xFEFF, 0xFEFD
_ALERT_RECORD, _HANDSHAKE_RECORD = 21, 22
_CLIENT_HELLO = 1
_ANSWERS = {2: "ServerHello", 3: "HelloVerifyRequest"}
#: ECDHE with ECDSA and RSA, PSK, RSA: what servers of the field have (RFC 7925, RFC 9325).
_SUITES = (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xC0AE, 0x00A8, 0xC0A8, 0xC023, 0xC027, 0x009C, 0x002F)
_EXTENSIONS = (
    (10, bytes.fromhex("0006001d00170018")),  # x25519, P-256, P-384
    (11, b"\1\0"),  # uncompressed points
    (13, bytes.fromhex("000e0403080404010503080505010806")),  # signature algorithms
    (23, b""),  # extended master secret
    (0xFF01, b"\0"),  # secure renegotiation
)


class Dtls:
    """An exchange of a ClientHello and the server's first message."""

    def __init__(self, random: Optional[bytes] = None) -> None:
        hello = struct.pack("!H", _DTLS_1_2) + (random or os.urandom(32))
        hello += b"\0\0"  # neither session nor cookie
        hello += struct.pack(f"!H{len(_SUITES)}H", 2 * len(_SUITES), *_SUITES) + b"\1\0"
        extensions = b"".join(
            struct.pack("!HH", kind, len(value)) + value for kind, value in _EXTENSIONS
        )
        hello += struct.pack("!H", len(extensions)) + extensions
        size = len(hello).to_bytes(3, "big")
        message = _HANDSHAKE.pack(_CLIENT_HELLO, size, 0, bytes(3), size) + hello
        head = _RECORD.pack(_HANDSHAKE_RECORD, _DTLS_1_0, 0, 0, 0, len(message))
        self.request = head + message

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept the beginning of a handshake, or an alert: with that the server lives, too."""
        if len(reply) < _RECORD.size:
            return unrelated("too short for a DTLS record")
        kind, version, epoch, _, _, size = _RECORD.unpack_from(reply)
        body = reply[_RECORD.size : _RECORD.size + size]
        if kind not in (_ALERT_RECORD, _HANDSHAKE_RECORD) or version >> 8 != 0xFE or epoch:
            return unrelated("no DTLS record of a new handshake")
        if len(body) < size:
            return failed(f"its DTLS record has {size} bytes, {len(body)} came")
        if kind == _ALERT_RECORD:
            if size != 2:
                return failed(f"a DTLS alert of {size} bytes")
            return passed(f"DTLS alert {body[1]}")
        if size < _HANDSHAKE.size or body[0] not in _ANSWERS:
            return failed(f"a DTLS handshake begins with message {body[0] if body else 'none'}")
        return passed(f"DTLS {_ANSWERS[body[0]]}")
