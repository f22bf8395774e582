# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers that set no SO_REUSEPORT: the bind hooks set it for instances of their service."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.host import Host, client
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import TO, WHERE, Edge, Traffic, ask, serving_only

pytest_plugins = ("tests.kernel.restart_fixtures",)

#: Flows outlive a drain, so what a test begins with the old instance stays there until it is cut.
GROUP = {"address": WHERE, "dissector": {"name": "flow", "parameters": {"flow_timeout": 60}}}
DRAIN = {"until": {"flows": 0, "quiet_s": None}, "max_s": 10, "on_timeout": "stop"}

#: A server as distributions have them: one socket, bound without SO_REUSEPORT.
SERVER = """
import os, signal, socket, sys
generation, (host, port) = sys.argv[1], sys.argv[2].split(":")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((host, int(port)))
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    data, peer = sock.recvfrom(2048)
    sock.sendto(generation.encode() if data == b"?" else data, peer)
"""
#: Binds in a cgroup, as a user; says which error it got, or what SO_REUSEPORT is then.
BINDER = """
import os, socket, sys
cgroup, uid, host, port = sys.argv[1:]
open(cgroup + "/cgroup.procs", "w").write("0")
os.setresuid(int(uid), int(uid), int(uid))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    sock.bind((host, int(port)))
except OSError as error:
    print("error", error.errno)
else:
    print("reuseport", sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
"""


@pytest.fixture
def plain(edge: Edge) -> Edge:
    """Return a service whose server sets no SO_REUSEPORT, its generation 1 serving."""
    edge.server.write_text(SERVER)
    edge.unit()
    edge.define(groups=[GROUP], enrollment="adopted", drain=DRAIN)
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr
    return edge


def bind_in(cgroup: Path, uid: int = 0, port: int = TO[1]) -> tuple[str, int]:
    """Bind in a control group as a user; what came of it."""
    command = [sys.executable, "-c", BINDER, str(cgroup), str(uid), TO[0], str(port)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    word, number = done.stdout.split()
    return word, int(number)


REFUSED = ("error", errno.EADDRINUSE)


def test_server_without_reuseport_is_restarted_under_traffic(plain: Edge) -> None:
    with Traffic(keep=False) as traffic:
        for generation in (2, 3):
            done = plain.restart()
            assert done.returncode == 0, done.stdout + done.stderr
            assert serving_only(plain, generation)
    assert traffic.lost == 0


def test_flow_of_the_old_instance_stays_there(plain: Edge) -> None:
    with client() as old, client() as new:
        assert ask(old) == 1
        with plain.start() as restart:
            plain.await_step("drain")
            restart.send_signal(signal.SIGSTOP)  # until all have asked, or its 10 s may be over
            assert (ask(old), ask(new)) == (1, 2)
            restart.send_signal(signal.SIGCONT)
            assert restart.wait(timeout=PATIENCE_S) == 0
    assert serving_only(plain, 2)


def test_no_other_process_shares_the_address(plain: Edge) -> None:
    cgroup = plain.host.cgroup
    assert bind_in(cgroup) == REFUSED  # the same user, outside of the service's units
    other = cgroup / "other@1.service"  # another service's unit
    other.mkdir()
    try:
        assert bind_in(other) == REFUSED
    finally:
        other.rmdir()
    unit = cgroup / "edge@1.service"
    assert bind_in(unit, uid=65534) == REFUSED  # another user, in a unit of the service


def test_only_the_addresses_of_the_definition_are_shared(plain: Edge) -> None:
    unit = plain.host.cgroup / "edge@1.service"
    assert bind_in(unit) == ("reuseport", 1)
    assert bind_in(unit, port=0) == ("reuseport", 0)
    assert bind_in(unit, port=TO[1] + 1) == ("reuseport", 0)


def test_a_group_of_the_name_elsewhere_is_none_of_the_service(plain: Edge) -> None:
    below = plain.host.cgroup / "elsewhere"
    unit = below / "edge@1.service"
    unit.mkdir(parents=True)
    try:
        assert bind_in(unit) == REFUSED
    finally:
        unit.rmdir()
        below.rmdir()


def test_a_group_below_the_unit_is_the_services(plain: Edge) -> None:
    below = plain.host.cgroup / "edge@1.service" / "worker"
    below.mkdir()
    try:
        assert bind_in(below) == ("reuseport", 1)
    finally:
        below.rmdir()


def test_unit_that_is_started_again_shares_as_before(plain: Edge) -> None:
    path = plain.host.cgroup / "edge@2.service"
    path.mkdir()
    first = path.stat().st_ino
    path.rmdir()
    path.mkdir()
    try:
        assert path.stat().st_ino != first
        assert bind_in(path) == ("reuseport", 1)
    finally:
        path.rmdir()


def test_definition_can_leave_it_to_the_server(plain: Edge) -> None:
    plain.define(groups=[{**GROUP, "reuseport": "server"}], enrollment="adopted")
    done = plain.restart()
    assert done.returncode == 1, done.stdout
    assert serving_only(plain, 1)


def test_state_remains_after_the_daemon(plain: Edge, host: Host) -> None:
    host.kill()
    path = host.cgroup / "edge@5.service"
    path.mkdir()
    try:
        assert bind_in(path) == ("reuseport", 1)
    finally:
        path.rmdir()


def test_a_clean_exit_takes_the_tracepoints_away(host: Host) -> None:
    assert {path.name for path in (host.directory / "tracepoints").iterdir()} == {
        "cgroup_mkdir",
        "cgroup_rmdir",
    }
    host.kill(15)
    assert not host.directory.exists()
