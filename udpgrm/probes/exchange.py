# SPDX-License-Identifier: Apache-2.0
"""What a type of probe has to know: the bytes to send, and what a reply means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Verdict:
    """What a datagram means to a probe.

    unrelated: not the reply that is waited for, as one to an earlier question.
    """

    kind: Literal["passed", "failed", "unrelated"]
    reason: str


def passed(reason: str) -> Verdict:
    """The reply that was wanted."""
    return Verdict("passed", reason)


def failed(reason: str) -> Verdict:
    """A reply to this question, and the wrong one."""
    return Verdict("failed", reason)


def unrelated(reason: str) -> Verdict:
    """Something else: continue waiting."""
    return Verdict("unrelated", reason)


@dataclass(frozen=True)
class Endpoints:
    """Between whom an exchange goes: (ip, port) of the prober and of the service."""

    source: tuple[str, int]
    target: tuple[str, int]


class Exchange(Protocol):
    """One question and its replies. `request` stays the same however often it is sent."""

    request: bytes

    def evaluate(self, reply: bytes) -> Verdict:
        """What a datagram means. Never raises."""
        ...
