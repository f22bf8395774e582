# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The connect probe: a listener's connection is established."""

from __future__ import annotations

from udpgrm.probes.exchange import Verdict, passed


class Connect:
    """An exchange of nothing: the connection itself is the answer."""

    request = b""

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept the connection."""
        return passed("the connection was established")
