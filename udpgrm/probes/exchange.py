# SPDX-License-Identifier: Apache-2.0
"""The interface of a type of probe: the bytes to send, and the evaluation of replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Verdict:
    """The verdict on a datagram.

    unrelated: not the expected reply, as a reply to an earlier question.
    """

    kind: Literal["passed", "failed", "unrelated"]
    reason: str


def passed(reason: str) -> Verdict:
    """Return the verdict on the expected reply."""
    return Verdict("passed", reason)


def failed(reason: str) -> Verdict:
    """Return the verdict on a wrong reply to this question."""
    return Verdict("failed", reason)


def unrelated(reason: str) -> Verdict:
    """Return the verdict on another datagram: continue waiting."""
    return Verdict("unrelated", reason)


@dataclass(frozen=True)
class Endpoints:
    """The endpoints of an exchange: (ip, port) of the prober and of the service."""

    source: tuple[str, int]
    target: tuple[str, int]


class Exchange(Protocol):
    """One question and its replies. `request` does not change however often it is sent."""

    request: bytes

    def evaluate(self, reply: bytes) -> Verdict:
        """Return the verdict on a datagram. Never raises."""
        ...
