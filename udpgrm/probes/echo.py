# SPDX-License-Identifier: Apache-2.0
"""The echo probe: a random nonce must come back (as of RFC 862)."""

from __future__ import annotations

import os

from udpgrm.probes.exchange import Verdict, passed, unrelated

_NONCE = 16


class Echo:
    """An exchange of a nonce and the same bytes."""

    def __init__(self) -> None:
        self.request = os.urandom(_NONCE)

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept the nonce as a reply, but not that of an earlier question."""
        if reply == self.request:
            return passed("the nonce came back")
        return unrelated("this is not the nonce that was sent")
