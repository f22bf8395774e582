# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers as their packages install them, by the profiles: from two commands to 20 restarts.

On a host with systemd, with the units that `udpgrm service new` makes of the packages' own, under
load of the servers' own clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import clients
from tests.servers.box import Box
from tests.servers.clients import Client
from udpgrm.services import profiles

PLAIN_RESTARTS = 2
SERVICE = "edge"
#: The load runs alone for so long before, between and after restarts.
PAUSE_S = 0.3

_ZONE = (
    "$ORIGIN example.\n$TTL 0\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n"
    'ns A 127.0.0.1\nwww A 192.0.2.1\nwhoami TXT "server0"\n'
)


@dataclass(frozen=True)
class Case:
    """How a server is asked. files: what its operator adds to the package's configuration.

    emptied: files of that whose content goes first.

    flow_timeout: another than the profile's, so that drains end soon.
    """

    client: Callable[[int], Client]
    files: dict[str, str] = field(default_factory=dict)
    flow_timeout: int = 0
    emptied: tuple[str, ...] = ()


CASES = {
    "caddy": Case(
        clients.http3,
        {"/etc/caddy/Caddyfile": 'https://localhost {\n  tls internal\n  respond "hello"\n}\n'},
        flow_timeout=2,
        emptied=("/etc/caddy/Caddyfile",),
    ),
    "chrony": Case(
        clients.requests(b"\x23" + bytes(47), b"\x24"),
        # no clock is set here, so it says that its own is right
        {"/etc/chrony/conf.d/local.conf": "local stratum 10\n"},
    ),
    "coturn": Case(
        clients.Turn,
        {
            "/etc/turnserver.conf": "no-auth\nallow-loopback-peers\nrelay-ip=127.0.0.1\n"
            "cli-password=none\n"
        },
        # longer than a client on a busy machine is silent between its allocation and its data
        8,
    ),
    "dnsdist": Case(
        clients.dns,
        {
            "/etc/dnsdist/dnsdist.conf": 'addAction(QNameRule("www.example."), '
            'SpoofAction("192.0.2.1"))\naddAction(QNameRule("whoami.example."), '
            'SpoofRawAction("\\007server0"))\n'
        },
    ),
    "freeradius": Case(
        clients.radius,
        {"/etc/freeradius/3.0/mods-config/files/authorize": 'bob Cleartext-Password := "hello"\n'},
        2,
    ),
    "kamailio": Case(clients.Sipp, {}, 2),
    "knot": Case(
        clients.dns,
        {
            "/etc/knot/knot.conf": "  - domain: example\n    file: /etc/knot/example.zone\n",
            "/etc/knot/example.zone": _ZONE,
        },
    ),
    "memcached": Case(clients.requests(b"\0\1\0\0\0\1\0\0version\r\n", b"\0\1\0\0\0\1\0\0VERSION")),
    "nsd": Case(
        clients.dns,
        {
            "/etc/nsd/nsd.conf.d/zone.conf": "zone:\n  name: example\n  zonefile: "
            "/etc/nsd/example.zone\n",
            "/etc/nsd/example.zone": _ZONE,
        },
    ),
    "snmpd": Case(clients.snmp, {}, 2),
    "unbound": Case(
        clients.dns,
        {
            "/etc/unbound/unbound.conf.d/example.conf": "server:\n"
            "    local-zone: example. static\n    local-data: 'www.example. A 192.0.2.1'\n"
            "    local-data: 'whoami.example. 0 IN TXT \"server0\"'\n"
        },
    ),
}


def test_every_profile_has_its_case() -> None:
    assert sorted(CASES) == profiles.names()


@pytest.mark.parametrize("name", CASES)
def test_restarts_lose_nothing(
    name: str, box: Box, restarts: int, figure: Callable[[str], None]
) -> None:
    case, profile = CASES[name], profiles.load(name)
    for path in case.emptied:
        box.run("truncate", "--size=0", path)
    for path, text in case.files.items():
        box.write(Path(path), text)
    where = f"127.0.0.1:{profile.port}"
    new = ["udpgrm", "service", "new", SERVICE, f"--profile={name}", f"--address={where}"]
    box.run(*new, *([f"--flow-timeout={case.flow_timeout}"] if case.flow_timeout else []))
    box.restart(SERVICE)
    running = case.client(profile.port)
    took = []
    for _ in range(restarts):
        time.sleep(PAUSE_S)
        began = time.monotonic()
        journal = box.restart(SERVICE)
        took.append(time.monotonic() - began)
    time.sleep(PAUSE_S)
    steered = running.end()
    unit = f"{SERVICE}@{journal['to_generation']}.service"
    running = case.client(profile.port)
    for _ in range(PLAIN_RESTARTS):
        time.sleep(PAUSE_S)
        box.run("systemctl", "restart", unit)
    time.sleep(PAUSE_S)
    plain = running.end()
    figure(
        f"{name}: {restarts} restarts, {steered.lost} of {steered.sent} lost, longest "
        f"{max(took):.1f} s; {PLAIN_RESTARTS} of systemctl: {plain.lost} of {plain.sent} lost"
    )
    assert steered.lost == 0
    assert plain.lost > 0
