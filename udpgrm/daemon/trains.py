# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Trains of GRO: not where flows are told apart by content, as a train goes to one socket.

The setsockopt hook refuses UDP_GRO there; sockets that had it before get it turned off here.
"""

from __future__ import annotations

import socket

from udpgrm import abi, log

_UDP_GRO = 104


def turn_off(group: abi.Group, fd: int, name: str) -> None:
    """Turn a socket's UDP_GRO off where its group reads payloads, and say so."""
    kind = group.type & ~abi.DISSECTOR_VERBOSE
    if kind in (abi.DissectorType.FLOW, abi.DissectorType.NOOP):
        return
    sock = socket.socket(fileno=fd)
    try:
        if sock.getsockopt(socket.IPPROTO_UDP, _UDP_GRO):
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 0)
            log.step(f"{name}: UDP_GRO is off now, a train would go to one socket of the group")
    finally:
        sock.detach()
