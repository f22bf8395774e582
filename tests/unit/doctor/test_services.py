# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the findings of doctor on services: bind hooks, and losses of clients in restarts."""

from __future__ import annotations

import socket
from typing import Any

from tests.unit.services.support import text
from udpgrm.doctor.facts import Finding, Socket
from udpgrm.doctor.services import about_services
from udpgrm.services import loader, profiles

ADDRESS = "192.0.2.1:4433"
SOCKET = Socket(7, 5, 11, socket.AF_INET, ADDRESS, reuseport=True, netns=1, cgroup="/a")


def found(address: str = ADDRESS, **keys: Any) -> list[Finding]:
    service, problems = loader.parse("edge", text(groups=[{"address": address}], **keys))
    assert service is not None, problems
    return about_services([service], [SOCKET])


def test_a_server_that_sets_reuseport_itself() -> None:
    assert found() == []


def test_hooks_set_reuseport() -> None:
    [finding] = found(profile="coturn")
    assert (finding.code, finding.problem) == ("reuseport_by_hook", False)
    assert finding.what == f"edge: bind hooks set SO_REUSEPORT at {ADDRESS}"
    assert "edge@.service" in finding.why


def test_clients_lose_something() -> None:
    _, finding = found(profile="mumble-server")
    losses = profiles.load("mumble-server").losses
    assert losses is not None
    assert (finding.code, finding.problem) == ("restart_loses", False)
    assert (finding.what, finding.why, finding.do) == (
        f"edge: {losses.what} in a restart",
        losses.why,
        losses.do,
    )


def test_a_service_with_another_address() -> None:
    assert found("192.0.2.2:4433", profile="mumble-server") == []
