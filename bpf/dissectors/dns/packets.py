# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of dns for tests."""

from __future__ import annotations

from testing.dissectors import Case

#: No packet names a socket.
CASES = {"dns": Case("dns", {}, [], fresh=[b"", b"query", bytes(1200)])}
