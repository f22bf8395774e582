# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The NTP probe: a request of version 4 (RFC 5905)."""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, passed, unrelated
from udpgrm.probes.specs import NtpProbe

_PACKET = struct.Struct("!BBbb12s8s8s8s8s")
_CLIENT, _SERVER = 3, 4
_UNSYNCHRONIZED = 3
_STRATA = range(1, 16)


class Ntp:
    """An exchange of a request and the answer that has its transmit timestamp."""

    def __init__(self, spec: NtpProbe, transmit: Optional[bytes] = None) -> None:
        self._want_time = spec.synchronized
        # random, as clients do that hide their clock; the server returns it as it is
        self._transmit = transmit or os.urandom(8)
        head = 4 << 3 | _CLIENT
        self.request = _PACKET.pack(head, 0, 0, 0, bytes(12), *[bytes(8)] * 3, self._transmit)

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept an answer; with `synchronized`, of a server that knows the time."""
        if len(reply) < _PACKET.size:
            return unrelated("too short for an NTP packet")
        head, stratum, _, _, root, _, origin, _, _ = _PACKET.unpack_from(reply)
        if head & 7 != _SERVER or origin != self._transmit:
            return unrelated("not the answer to this NTP request")
        text = f"NTP stratum {stratum}"
        if stratum == 0:
            text = f"NTP kiss code {root[8:].decode('ascii', 'replace')}"
        if head >> 6 == _UNSYNCHRONIZED:
            text += ", not synchronized"
        is_synchronized = head >> 6 != _UNSYNCHRONIZED and stratum in _STRATA
        if self._want_time and not is_synchronized:
            return unrelated(text)  # wait for a reply once the server is synchronized
        return passed(text)
