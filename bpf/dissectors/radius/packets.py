# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of radius for tests: its flows are keyed, so packets name no socket."""

from __future__ import annotations


def radius(code: int, state: bytes = b"") -> bytes:
    """Return a packet of a user, with a State unless it is empty."""
    attributes = b"\1\7alice" + (bytes([24, len(state) + 2]) + state if state else b"")
    return bytes([code, 7]) + (20 + len(attributes)).to_bytes(2, "big") + bytes(16) + attributes
