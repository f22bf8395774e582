# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Services whose instances are containers, as docs/containers.md has them.

Podman and systemd-nspawn, on a host with systemd whose own root is the containers' root.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import clients
from tests.servers.box import Box

PORT = 123
RESTARTS = 5
PAUSE_S = 0.3

#: A question and how its answer begins.
NTP = (b"\x23" + bytes(47), b"\x24")

_ROOT = "/srv/rootfs"
_CHRONY = (
    'chronyd -x -d -u root "local stratum 10" "allow 0/0" "bindaddress 127.0.0.1" "cmdport 0" '
    '"pidfile /run/chronyd.pid"'
)
# a server that takes its socket from systemd, and says whether it has a network of its own
_ECHO = """import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # else process 1 ignores it
sock = socket.socket(fileno=3)
links = ",".join(name for _, name in socket.if_nameindex())
while True:
    question, client = sock.recvfrom(2048)
    sock.sendto(f"{os.environ['LISTEN_FDS']} {links} ".encode() + question, client)
"""
_UNIT = """[Service]
Type=notify
NotifyAccess=all
Slice=udpgrm.slice
Delegate=yes
KillMode=mixed
ExecStart={command}
"""
_DEFINITION = """groups: [{{address: "127.0.0.1:{port}", dissector: {{name: noop}}}}]
instances: {{unit: "edge@.service"}}
enrollment: {enrollment}
{keys}
drain: {{until: {{flows: null, quiet_s: 0.5}}, max_s: 30, on_timeout: stop}}
"""
# the host's root is an overlay, on which podman mounts none, and has no controllers;
# crun, other than runc, insists on a limit that this machine does not let it have
_STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/podman"\ngraphroot = "/var/lib/podman"\n'
_ENGINE = '[engine]\nruntime = "runc"\ncgroup_manager = "systemd"\nevents_logger = "file"\n'
_HERE = "--ulimit=host --pids-limit=-1"


def podman(server: str, options: str) -> str:
    """Return a command line like that of a quadlet, but for what this machine needs."""
    return (
        "/usr/bin/podman run --name=edge-%i --replace --rm -d --log-driver=passthrough "
        f"--sdnotify=conmon {_HERE} --tmpfs=/run:notmpcopyup {options} --rootfs {_ROOT} {server}"
    )


def nspawn(server: str, options: str) -> str:
    """Return the command of a container that the unit's main process supervises."""
    return (
        "/usr/bin/systemd-nspawn --quiet --keep-unit --register=no --machine=edge-%i "
        f"--directory={_ROOT} --read-only --as-pid2 --kill-signal=SIGRTMIN+3 --console=pipe "
        f"--resolv-conf=off --timezone=off --link-journal=no {options} {server}"
    )


SPLIT = "--network=host --cgroups=split"
ENGINES = {"podman": podman(_CHRONY, SPLIT), "nspawn": nspawn(_CHRONY, "")}


@pytest.fixture
def box(box: Box) -> Box:
    """Return a host whose root directory the containers share."""
    box.run("mkdir", "-p", _ROOT)
    box.run("mount", "--bind", "/", _ROOT)
    box.write(Path("/etc/containers/storage.conf"), _STORAGE)
    box.write(Path("/etc/containers/containers.conf"), _ENGINE)
    return box


def define(
    box: Box, command: str, keys: str = "probes: [{type: ntp}]", *, enrollment: str = "adopted"
) -> None:
    """Make a service whose instances run a command."""
    box.write(Path("/etc/systemd/system/edge@.service"), _UNIT.format(command=command))
    definition = _DEFINITION.format(port=PORT, keys=keys, enrollment=enrollment)
    box.write(Path("/etc/udpgrm/services.d/edge.yaml"), definition)
    box.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("engine", ENGINES)
def test_restarts_lose_nothing(engine: str, box: Box, figure: Callable[[str], None]) -> None:
    """Restart a server in the host's network that sets no SO_REUSEPORT."""
    define(box, ENGINES[engine])
    figure(f"{engine}: {restarts(box, *NTP)}")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("podman", podman("python3 /srv/echo.py", "--network=none --cgroups=split")),
        ("nspawn", nspawn("python3 /srv/echo.py", "--private-network")),
    ],
)
def test_a_network_of_its_own(
    name: str, command: str, box: Box, figure: Callable[[str], None]
) -> None:
    """Restart a container with a network of its own: `udpgrm activate` binds in the host's."""
    box.write(Path("/srv/echo.py"), _ECHO)
    activate = f"/usr/bin/udpgrm activate --noop --generation=%i edge 127.0.0.1:{PORT} -- "
    define(box, activate + command, "", enrollment="store")
    figure(f"{name}, its own network: {restarts(box, b'question', b'1 lo question')}")


def restarts(box: Box, question: bytes, answer: bytes) -> str:
    """Restart the service under load, and return what was lost; nothing may be."""
    box.restart("edge")
    running = clients.requests(question, answer)(PORT)
    for _ in range(RESTARTS):
        time.sleep(PAUSE_S)
        journal = box.restart("edge")
    counts = running.end()
    running = clients.requests(question, answer)(PORT)
    time.sleep(PAUSE_S)
    box.run("systemctl", "restart", f"edge@{journal['to_generation']}")
    time.sleep(PAUSE_S)
    plain = running.end()
    assert counts.lost == 0
    assert plain.lost > 0
    return (
        f"{RESTARTS} restarts, {counts.lost} of {counts.sent} lost; "
        f"systemctl restart: {plain.lost} of {plain.sent} lost"
    )
