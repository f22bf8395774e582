# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""GRO trains: refused if flows are distinguished by content, as a train goes to one socket.

The setsockopt hook refuses UDP_GRO then; it is turned off here for sockets that had it before.
"""

from __future__ import annotations

import socket

from udpgrm import abi, log
from udpgrm.dissectors import kinds
from udpgrm.kernel import pidfd, sockopt


def turn_off(group: abi.Group, fd: int, name: str) -> None:
    """Turn a socket's UDP_GRO off if its group reads payloads, and log that."""
    if not kinds.of_type(group.type).reads_payload:
        return
    with pidfd.borrowed(fd) as sock:
        if sock.getsockopt(socket.IPPROTO_UDP, sockopt.UDP_GRO):
            sock.setsockopt(socket.IPPROTO_UDP, sockopt.UDP_GRO, 0)
            log.problem(f"{name}: UDP_GRO is off now, a train would go to one socket of the group")
