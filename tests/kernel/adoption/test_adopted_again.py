# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Adopted units that systemd starts again: in a new cgroup of the same path."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import Host, inside, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.adoption.test_adoption import WHERE, Unit, Units, ask, enroll, units
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import Edge, Traffic, serving_only

__all__ = ["edge", "units"]

#: Binds again when told to, and answers.
_BINDS_AGAIN = """
import select, socket, sys
def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    return sock
sock = bound()
print("bound", flush=True)
while True:
    for ready in select.select([sys.stdin, sock], [], [])[0]:
        if ready is sock:
            data, peer = sock.recvfrom(100)
            sock.sendto(b"again", peer)
        elif sys.stdin.readline():
            if {new_first}:
                earlier, sock = sock, bound()
                earlier.close()
            else:
                sock.close()
                sock = bound()
            print("bound", flush=True)
"""


def alive(host: Host) -> dict[int, int]:
    """Living sockets by generation."""
    groups = host.json("list", WHERE)["groups"]
    return {
        item["generation"]: item["sockets_alive"]
        for group in groups
        for item in group["generations"]
        if item["sockets_alive"]
    }


def start_again(units: Units, unit: Unit, pause: float = 0.0) -> Unit:
    """Stop a unit and start it in a new cgroup of the same name, as systemd does after a crash."""
    before = os.stat(unit.cgroup).st_ino
    unit.stop()
    units.all.remove(unit)
    time.sleep(pause)
    again = units.start(unit.cgroup.name)
    assert os.stat(again.cgroup).st_ino != before
    return again


def await_watch(host: Host, cgroup: Path) -> None:
    """Wait until the daemon watches (inotify) where this cgroup would be made again."""
    watch = f" ino:{os.stat(cgroup.parent).st_ino:x} "

    def is_watched() -> bool:
        found = []
        for path in Path(f"/proc/{host.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):  # its descriptors come and go
                found.append(watch in path.read_text())
        return any(found)

    wait_for(is_watched, f"the daemon to watch {cgroup.parent}")


@pytest.fixture
def two(host: Host, units: Units) -> tuple[Unit, Unit]:
    """Enroll two units: generation 1 drains, generation 2 is active."""
    old, new = units.start("old"), units.start("new")
    for unit, number in ((old, 1), (new, 2)):
        assert enroll(host, unit, "--count=2", f"--gen={number}").returncode == 0
    assert host.run("working-gen", WHERE, "2").returncode == 0
    await_watch(host, new.cgroup)
    return old, new


def test_the_working_instance(host: Host, units: Units, two: tuple[Unit, Unit]) -> None:
    start_again(units, two[1])
    wait_for(lambda: alive(host) == {1: 2, 2: 2}, "the new sockets")
    assert ask(50) == {"new"}
    dead = units.all[-1].workers()[0]
    os.kill(dead, 9)  # what its cgroup binds later is enrolled by the hooks, as before
    wait_for(lambda: dead not in units.all[-1].workers() and alive(host) == {1: 2, 2: 2}, "another")


def test_the_instance_that_drains(host: Host, units: Units, two: tuple[Unit, Unit]) -> None:
    start_again(units, two[0])
    wait_for(lambda: alive(host) == {1: 2, 2: 2}, "the new sockets")
    assert ask(50) == {"new"}


def test_the_only_instance_after_a_while(host: Host, units: Units) -> None:
    """Keep the group of an adopted unit without sockets longer than any other group."""
    unit = units.start("only")
    assert enroll(host, unit, "--count=2", "--gen=5").returncode == 0
    assert host.run("working-gen", WHERE, "5").returncode == 0
    await_watch(host, unit.cgroup)
    start_again(units, unit, pause=4)
    wait_for(lambda: alive(host) == {5: 2}, "the new sockets")
    assert host.group(WHERE)["applications"][0]["working_generation"] == 5


def test_while_no_daemon_runs(host: Host, units: Units, two: tuple[Unit, Unit]) -> None:
    host.kill()
    start_again(units, two[1])
    assert ask(50) == {"old"}  # nothing of generation 2 lives
    host.start()
    wait_for(lambda: alive(host) == {1: 2, 2: 2}, "the new sockets")
    assert ask(50) == {"new"}


def test_hooks_of_the_cgroup_alone(bare_host: Host, units: Units) -> None:
    """Move the hooks of the unit's own cgroup to the new cgroup of that name."""
    bare_host.start(install=False)
    unit = units.start("server")
    assert bare_host.run("hooks", "add", str(unit.cgroup)).returncode == 0
    assert enroll(bare_host, unit, "--count=2", "--gen=0").returncode == 0
    await_watch(bare_host, unit.cgroup)
    again = start_again(units, unit)
    wait_for(lambda: alive(bare_host) == {0: 2}, "the new sockets")
    assert bare_host.json("hooks", "list")["cgroups"] == [str(again.cgroup)]


def test_a_generation_whose_slot_is_taken(host: Host, units: Units, two: tuple[Unit, Unit]) -> None:
    """Leave generation 2 alone when it comes back: generation 34 has its slot by now."""
    two[1].stop()
    units.all.remove(two[1])
    other = grm.bind(WHERE)
    grm.enroll(other, 34)
    units.start("new")
    time.sleep(2)
    assert alive(host) == {1: 2, 34: 1}
    other[0].close()


@pytest.mark.parametrize("new_first", [True, False])
def test_binds_again(bare_host: Host, units: Units, new_first: bool) -> None:
    """Enter the new socket of an adopted server that binds again, as on SIGHUP, at once.

    New flows go to another generation meanwhile.
    """
    bare_host.start(fault="from udpgrm.daemon import entering\nentering._GRACE_S = 3600.0")
    old, new = units.start("old"), units.start("new", workers=0)
    server = inside(new.cgroup, sys.executable, "-c", _BINDS_AGAIN.format(new_first=new_first))
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"bound\n"
        assert enroll(bare_host, old, "--count=2", "--gen=1").returncode == 0
        assert enroll(bare_host, new, "--count=1", "--gen=2").returncode == 0
        assert bare_host.run("working-gen", WHERE, "2").returncode == 0
        [before] = sockets_of(bare_host, 2)
        process.stdin.write(b"again\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"bound\n"
        wait_for(lambda: sockets_of(bare_host, 2) - {before}, "the new socket")
        assert ask(20) == {"again"}
        process.kill()


def sockets_of(host: Host, generation: int) -> set[int]:
    """Return the SO_COOKIEs of a generation's living sockets."""
    return {
        sock["socket_cookie"]
        for item in host.group(WHERE)["generations"]
        for sock in item["sockets"]
        if item["generation"] == generation and sock["alive"]
    }


def test_restarts_after_a_crash(edge: Edge) -> None:
    """Move an instance that systemd has started again in the next restart, as any other."""
    edge.run_plain_server()
    assert edge.restart().returncode == 0
    await_watch(edge.host, edge.host.cgroup / "edge@1.service")
    for verb in ("stop", "start"):
        subprocess.run(["systemctl", verb, "edge@1.service"], check=True)
    wait_for(lambda: alive(edge.host) == {1: 2}, "the new sockets")
    with Traffic() as traffic:
        command = edge.start("restart", "edge", "--json")
        edge.await_step("drain")
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed + errors
    journal: dict[str, Any] = json.loads(printed)
    assert (journal["from_generation"], journal["outcome"]) == (1, "finished")
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(edge, 2)
    assert not Path(edge.host.cgroup / "edge@1.service").exists()
