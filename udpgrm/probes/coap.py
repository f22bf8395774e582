# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The CoAP probe: a ping, which is an empty confirmable message (RFC 7252, section 4.3)."""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated

_MESSAGE = struct.Struct("!BBH")
_VERSION = 1
_CONFIRMABLE, _ACKNOWLEDGEMENT, _RESET = 0, 2, 3


class Coap:
    """An exchange of a ping and the reset that rejects it."""

    def __init__(self, message_id: Optional[int] = None) -> None:
        self._id = int.from_bytes(os.urandom(2), "big") if message_id is None else message_id
        self.request = _MESSAGE.pack(_VERSION << 6 | _CONFIRMABLE << 4, 0, self._id)

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept a reset of the message's ID."""
        if len(reply) < _MESSAGE.size:
            return unrelated("too short for a CoAP message")
        head, code, message_id = _MESSAGE.unpack_from(reply)
        kind = head >> 4 & 3
        if head >> 6 != _VERSION or message_id != self._id:
            return unrelated("not the answer to this CoAP message")
        if kind not in (_ACKNOWLEDGEMENT, _RESET):
            return unrelated("a CoAP message of its own")
        if kind == _ACKNOWLEDGEMENT or code or len(reply) > _MESSAGE.size:
            return failed("a CoAP ping must be rejected with an empty reset")
        return passed("CoAP reset")
