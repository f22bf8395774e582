# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Answers that no hook has seen: of a server that answers so no flow is known."""

from __future__ import annotations

import time

from udpgrm.restart.prober import StepFailed
from udpgrm.state import address, flows
from udpgrm.state.maps import Maps
from udpgrm.state.probing import Probing

#: A server may assure a flow (UDP_GRM_FLOW_ASSURE) just after it has answered.
_PATIENCE_S = 1.0
_POLL_S = 0.02


def refuse(maps: Maps, group_id: int, peer: tuple[str, int], generation: int) -> None:
    """Raise StepFailed if an answer to a peer has left neither a flow nor a connected socket."""
    group, key = maps.group(group_id), bytes(address.flow_key(*peer))
    deadline = time.monotonic() + _PATIENCE_S
    with Probing(maps, group_id) as probing:
        while not flows.has(maps, group, key) and probing.connected(peer) is None:
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"{address.of_key(group.key)}: generation {generation} answers, but past the "
                    "hooks (a raw or packet socket, or one that it closes at once): none of its "
                    "flows is known, so a promotion would move its clients. Let it answer from the "
                    "socket that serves, or choose a dissector without flows (docs/limits.md)"
                )
            time.sleep(_POLL_S)
