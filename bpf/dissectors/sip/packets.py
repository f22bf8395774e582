# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of sip for tests: its flows are keyed, so packets name no socket."""

from __future__ import annotations


def sip(call: str, cseq: str = "1 INVITE") -> bytes:
    """Return a response of a call. cseq: number and method."""
    lines = ("SIP/2.0 200 OK", "Via: SIP/2.0/UDP 127.0.0.1", f"Call-ID: {call}", f"CSeq: {cseq}")
    return "\r\n".join((*lines, "", "")).encode()
