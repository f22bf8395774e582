# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The newest generation of a group."""

from __future__ import annotations

from typing import Optional

from udpgrm.state.view import GroupView


def newest(view: GroupView, application: int) -> Optional[int]:
    """Return the newest generation of an application that has a living socket.

    Counted forward from the working one as u32 sequence numbers (RFC 1982).
    """
    base = view.working[application]
    ahead = {
        (item.generation - base) % 2**32: item.generation
        for item in view.generations
        if item.application == application and item.alive
    }
    forward = {step: generation for step, generation in ahead.items() if step < 2**31}
    if forward:
        return forward[max(forward)]
    return ahead[max(ahead)] if ahead else None
