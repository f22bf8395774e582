# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The end of a service: what its clients would lose. Pure."""

from __future__ import annotations

from typing import Any, Optional


def loss(document: dict[str, Any]) -> Optional[str]:
    """Return why a service of `udpgrm status` must not end now, and what to do; None: it may."""
    restart = document["restart"]
    drains = any(earlier["outcome"] is None for earlier in document["draining"])
    if drains or (restart is not None and restart["running"]):
        return "a restart runs; wait for its end"
    flows = [
        (group["address"], generation["flows"])
        for group in document["groups"]
        for generation in group["generations"]
        if generation["sockets"]
    ]
    uncounted = ", ".join(dict.fromkeys(address for address, number in flows if number is None))
    if uncounted:
        return f"the flows of {uncounted} are not counted; stop the service first"
    total = sum(number for _, number in flows)
    if total:
        return (
            f"{total} flows would be lost; try again when its clients have gone, or stop it first"
        )
    return None
