# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The interface of probers for a restart's steps, and the steps' failure."""

from __future__ import annotations

from typing import Any, Optional, Protocol

Evidence = dict[str, Any]


class StepFailed(Exception):
    """Raised when a step fails; the message says why."""


class Prober(Protocol):
    """Probes the service, and asks the kernel where the packets went. Raises StepFailed.

    Each adds what it saw to the evidence.
    """

    def canary(self, new: int, evidence: Evidence) -> None:
        """Probe the new generation, before any client reaches it."""
        ...

    def hold(self, old: int, evidence: Evidence) -> None:
        """Begin flows with the old generation."""
        ...

    def verify(self, old: Optional[int], new: int, evidence: Evidence) -> None:
        """Verify that new flows reach the new generation, and held flows still the old one."""
        ...
