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
from typing import Any

import pytest

from testing.host import ROOT
from testing.load import Counts
from tests.servers import clients, mumble
from tests.servers.box import Box
from tests.servers.clients import Client
from udpgrm.services import profiles

PLAIN_RESTARTS = 2
SERVICE = "edge"
#: The load runs alone for so long before, between and after restarts.
PAUSE_S = 0.3
#: How often restarts are tried in which a receive buffer was full, as a busy machine did not let a
#: server run for a second: that is no loss of a restart. A fault fills buffers each time.
ATTEMPTS = 3
#: Longer than any client takes to give up a request, and to send the next.
OUTAGE_S = 10.0

_ZONE = (
    "$ORIGIN example.\n$TTL 0\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n"
    'ns A 127.0.0.1\nwww A 192.0.2.1\nwhoami TXT "server0"\n'
)

_APPLICATION = """\
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


@dataclass(frozen=True)
class Case:
    """The client of a server, and its operator's changes of the package's configuration.

    files: to write; emptied: to empty before. commands: to run besides.

    flow_timeout: in place of the profile's, so that drains end soon. drain: so too, keys of it.

    most_lost: replies that a restart may lose, of a server whose profile says that it may.
    """

    client: Callable[[int], Client]
    files: dict[str, str] = field(default_factory=dict)
    flow_timeout: int = 0
    drain: str = ""
    emptied: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    most_lost: int = 0


CASES = {
    "aiocoap": Case(
        clients.coap("answer"),
        {
            "/etc/default/aiocoap": "",
            "/srv/coap/answer": "test server",
            "/etc/systemd/system/aiocoap.service": "[Service]\nUser=daemon\n"
            "SuccessExitStatus=143\nExecStart=/bin/sh -c '. /etc/default/aiocoap; "
            f"exec {ROOT}/build/venvs/servers/bin/aiocoap-fileserver --bind $BIND /srv/coap'\n",
        },
        2,
    ),
    "caddy": Case(
        clients.http3,
        {"/etc/caddy/Caddyfile": 'https://localhost {\n  tls internal\n  respond "hello"\n}\n'},
        # longer than a client on a busy machine is silent
        flow_timeout=5,
        emptied=("/etc/caddy/Caddyfile",),
    ),
    "chrony": Case(
        clients.requests(b"\x23" + bytes(47), b"\x24"),
        # no clock is set here, so it says that its own is right
        {"/etc/chrony/conf.d/local.conf": "local stratum 10\n"},
    ),
    "coap-server": Case(
        clients.coap(""),
        {
            "/etc/default/coap-server": "",
            "/etc/systemd/system/coap-server.service": "[Service]\nUser=daemon\n"
            "ExecStart=/bin/sh -c '. /etc/default/coap-server; "
            "exec coap-server-notls -A $ADDRESS -p $PORT'\n",
        },
        2,
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
        drain="until: {flows: 0, quiet_s: 1}",
    ),
    "hypercorn": Case(
        clients.http3,
        {
            "/etc/hypercorn.py": 'certfile = "/srv/cert"\nkeyfile = "/srv/key"\n',
            "/srv/application.py": _APPLICATION,
            "/etc/systemd/system/hypercorn.service": "[Service]\nWorkingDirectory=/srv\n"
            f"ExecStart={ROOT}/build/venvs/servers/bin/hypercorn --config file:/etc/hypercorn.py "
            "application:application\n",
        },
        2,
        commands=(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "
            "/CN=localhost -keyout /srv/key -out /srv/cert",
        ),
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
    "mumble-server": Case(
        clients.mumble_sessions,
        flow_timeout=2,
        # bans an address that connects ten times in two minutes; the file ends in another section
        commands=("sed -i '1i autobanAttempts=0' /etc/mumble-server.ini",),
        # each of its users may have logged in as an instance is promoted
        most_lost=clients.MUMBLE_USERS * mumble.UNANSWERED,
    ),
    "nsd": Case(
        clients.dns,
        {
            # it truncates more than 200 answers a second to one client
            "/etc/nsd/nsd.conf.d/zone.conf": "server:\n  rrl-ratelimit: 0\nzone:\n"
            "  name: example\n  zonefile: /etc/nsd/example.zone\n",
            "/etc/nsd/example.zone": _ZONE,
        },
    ),
    "snmpd": Case(clients.snmp, {}, 2),
    "teeworlds": Case(
        clients.teeworlds,
        {"/etc/teeworlds/server.cfg": "sv_register 0\n"},
        2,
        # as its README.Debian says
        commands=("useradd --system --create-home _teeworlds",),
    ),
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
    # the others: test_vpn.py
    assert sorted([*CASES, "openvpn", "wireguard-go"]) == profiles.names()


@pytest.mark.parametrize("name", CASES)
def test_restarts_lose_nothing(
    name: str, box: Box, restarts: int, figure: Callable[[str], None]
) -> None:
    case, profile = CASES[name], profiles.load(name)
    for path in case.emptied:
        box.run("truncate", "--size=0", path)
    for path, text in case.files.items():
        box.write(Path(path), text)
    for command in case.commands:
        box.run("sh", "-c", command)
    where = f"127.0.0.1:{profile.port}"
    new = ["udpgrm", "service", "new", SERVICE, f"--profile={name}", f"--address={where}"]
    box.run(*new, *([f"--flow-timeout={case.flow_timeout}"] if case.flow_timeout else []))
    if case.drain:
        box.write(Path(f"/etc/udpgrm/services.d/{SERVICE}.yaml"), f"drain: {{{case.drain}}}\n")
    box.restart(SERVICE)
    for _ in range(ATTEMPTS):
        full = overflows()
        steered, journals = restarted(box, case.client(profile.port), restarts)
        if steered.lost <= case.most_lost * restarts or overflows() == full:
            break
    unit = f"{SERVICE}@{journals[-1]['to_generation']}.service"
    plain = restarted_by_systemctl(box, unit, case.client(profile.port))
    figure(
        f"{name}: {restarts} restarts, {steered.lost} of {steered.sent} lost; {PLAIN_RESTARTS} of "
        f"systemctl: {plain.lost} of {plain.sent} lost; a restart takes {durations(journals)}"
    )
    assert (case.most_lost > 0) == (profile.losses is not None)
    assert steered.lost <= case.most_lost * restarts
    # a client that seldom asks may have seen none of the plain restarts
    noticed = plain.lost or stopped_for_long(box, unit, case.client(profile.port)).lost
    assert noticed > steered.lost


def overflows() -> int:
    """Return how many packets full receive buffers have dropped, of all sockets here."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if "Udp:" in line
    )
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(values[names.index("RcvbufErrors")]) + int(six["Udp6RcvbufErrors"])


def restarted(
    box: Box, running: clients.Client, restarts: int
) -> tuple[Counts, list[dict[str, Any]]]:
    """Restart the service under load; what became of the load, and the journals."""
    journals = []
    for _ in range(restarts):
        time.sleep(PAUSE_S)
        journals.append(box.restart(SERVICE))
    time.sleep(PAUSE_S)
    return running.end(), journals


def restarted_by_systemctl(box: Box, unit: str, running: clients.Client) -> Counts:
    """Restart an instance under load without udpgrm; what became of the load."""
    for _ in range(PLAIN_RESTARTS):
        time.sleep(PAUSE_S)
        box.run("systemctl", "restart", unit)
    time.sleep(PAUSE_S)
    return running.end()


def stopped_for_long(box: Box, unit: str, running: clients.Client) -> Counts:
    """Stop an instance under load for as long as no client can overlook, and start it again."""
    box.run("systemctl", "stop", unit)
    time.sleep(OUTAGE_S)
    box.run("systemctl", "start", unit)
    return running.end()


def durations(journals: list[dict[str, Any]]) -> str:
    """Return how long the steps of restarts take, on average."""
    spent: dict[str, float] = {}
    for journal in journals:
        for step in journal["steps"]:
            spent.setdefault(step["step"], 0)
            spent[step["step"]] += (step["ended"] - step["started"]) / len(journals)
    long = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items() if seconds >= 0.1)
    return f"{sum(spent.values()):.1f} s ({long})"
