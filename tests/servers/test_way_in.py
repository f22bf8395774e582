# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Two commands from a package's running unit to its first graceful restart, under load."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from distribution import units
from tests.servers import test_profiles
from tests.servers.box import Box
from udpgrm.services import profiles

SERVICE = "edge"


@dataclass(frozen=True)
class Way:
    """The operator's configuration that lets a server listen at the service's address only.

    files: of its configuration, those of the profile's case included. flow_timeout: shorter than
    the profile's, so that the drain ends soon. known_s: how long the load runs between the two
    commands, until every client that stays has got a packet.
    """

    files: dict[str, str]
    address: str = "127.0.0.1"
    flow_timeout: int = 2
    known_s: float = 0.3


_CASES = test_profiles.CASES
WAYS = {
    "caddy": Way(_CASES["caddy"].files, "[::]"),
    "coturn": Way(
        {path: f"{text}listening-ip=127.0.0.1\n" for path, text in _CASES["coturn"].files.items()},
        # a session of turnutils_uclient is silent for 1 to 6 s between its allocation and its data
        flow_timeout=15,
        known_s=8,
    ),
    "kamailio": Way({"/etc/kamailio/kamailio.cfg": "listen=udp:127.0.0.1:5060\n"}),
}


@pytest.mark.parametrize("name", WAYS)
def test_two_commands(name: str, box: Box, figure: Callable[[str], None]) -> None:
    """Lose nothing, and let the service start at boot."""
    way, case, profile = WAYS[name], _CASES[name], profiles.load(name)
    for path in case.emptied:
        box.run("truncate", "--size=0", path)
    for path, text in way.files.items():
        box.write(Path(path), text)
    # systemctl would keep its links up to date, of which the box has none
    box.run("rm", "-f", f"/etc/init.d/{name}")
    unit = "udpgrm-first@.service"
    box.write(Path("/etc/systemd/system", unit), units.rendered()[unit])
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "enable", "--now", profile.unit)
    running = case.client(profile.port)
    time.sleep(way.known_s)
    printed = box.run(
        *("udpgrm", "service", "new", SERVICE, f"--profile={name}"),
        *(f"--address={way.address}:{profile.port}", f"--flow-timeout={way.flow_timeout}"),
    )
    assert f"{SERVICE}: {profile.unit} is its first generation" in printed
    time.sleep(way.known_s)
    journal = box.restart(SERVICE)
    counts = running.end()
    figure(f"{name}: from {profile.unit}, {counts.lost} of {counts.sent} lost")
    assert (journal["from_generation"], journal["to_generation"]) == (0, 1)
    assert counts.lost == 0
    first = f"udpgrm-first@{SERVICE}.service"
    box.run("udpgrm", "service", "start", SERVICE)
    enabled = box.run("sh", "-c", f"systemctl is-enabled {first} {profile.unit} || true")
    assert enabled.split() == ["enabled", "disabled"]
    box.run("systemctl", "stop", f"{SERVICE}@1.service")
    box.run("systemctl", "restart", first)  # as at boot
    assert box.run("systemctl", "is-active", f"{SERVICE}@2.service") == "active\n"
