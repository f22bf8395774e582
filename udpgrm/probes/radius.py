# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The RADIUS probe: Status-Server (RFC 5997), which needs no user."""

from __future__ import annotations

import os
import struct
from typing import Optional

from udpgrm.probes.exchange import Verdict, failed, passed, unrelated
from udpgrm.probes.specs import RadiusProbe

_HEADER = struct.Struct("!BBH16s")
_STATUS_SERVER, _MESSAGE_AUTHENTICATOR = 12, 80
_ANSWERS = {2: "Access-Accept", 3: "Access-Reject", 5: "Accounting-Response"}


class Radius:
    """An exchange of Status-Server and an answer that is signed with the secret."""

    def __init__(self, spec: RadiusProbe, authenticator: Optional[bytes] = None) -> None:
        import hmac  # loads OpenSSL, and commands import all probes

        self._secret = spec.secret.encode()
        self._authenticator = authenticator or os.urandom(16)
        self._identifier = self._authenticator[0]
        size = _HEADER.size + 18
        head = _HEADER.pack(_STATUS_SERVER, self._identifier, size, self._authenticator)
        attribute = bytes((_MESSAGE_AUTHENTICATOR, 18))
        signed = hmac.digest(self._secret, head + attribute + bytes(16), "md5")
        self.request = head + attribute + signed

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept any answer of a server that has the secret."""
        import hashlib
        import hmac

        if len(reply) < _HEADER.size:
            return unrelated("too short for a RADIUS packet")
        code, identifier, size, authenticator = _HEADER.unpack_from(reply)
        if code not in _ANSWERS or identifier != self._identifier:
            return unrelated("not the answer to this RADIUS request")
        if not _HEADER.size <= size <= len(reply):
            return failed(f"its RADIUS length is {size}, {len(reply)} bytes came")
        reply = reply[:size]  # what follows is padding (RFC 2865, section 3)
        body = reply[:4] + self._authenticator + reply[_HEADER.size :] + self._secret
        if not hmac.compare_digest(hashlib.md5(body).digest(), authenticator):
            return failed(f"RADIUS {_ANSWERS[code]} that is signed with another secret")
        return passed(f"RADIUS {_ANSWERS[code]}")
