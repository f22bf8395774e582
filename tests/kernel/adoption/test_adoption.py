# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers without udpgrm support are enrolled from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import Host, client, inside, remove_cgroup, wait_for
from testing.waiting import PATIENCE_S

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)
#: Answers with its name; starts another worker when one ends. It is up once all have bound.
SERVER = """
import os, signal, socket, sys
name, workers, reuseport = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
bound, binds = os.pipe()
def work():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
    sock.bind(("127.0.0.1", 4433))
    os.write(binds, b"x")
    while True:
        data, peer = sock.recvfrom(100)
        sock.sendto(name + b" %d" % os.getpid(), peer)
def start():
    if os.fork() == 0:
        work()
for _ in range(workers):
    start()
    os.read(bound, 1)
print("up", flush=True)
while True:
    os.wait()
    start()
"""


class Unit:
    """A server in a cgroup of its own, below the hooked one."""

    def __init__(self, parent: Path, name: str, workers: int = 2, reuseport: int = 1) -> None:
        self.cgroup = parent / name
        self.cgroup.mkdir()
        self.process = subprocess.Popen(
            inside(self.cgroup, sys.executable, "-c", SERVER, name, str(workers), str(reuseport)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def stop(self) -> None:
        remove_cgroup(self.cgroup)
        self.process.communicate()

    def cgroup_processes(self) -> str:
        return (self.cgroup / "cgroup.procs").read_text()

    def workers(self) -> list[int]:
        pids = [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()]
        return [pid for pid in pids if pid != self.process.pid]


class Units:
    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.all: list[Unit] = []

    def start(self, name: str, workers: int = 2, reuseport: int = 1) -> Unit:
        self.all.append(Unit(self.parent, name, workers, reuseport))
        return self.all[-1]


@pytest.fixture
def units(cgroup: Path) -> Iterator[Units]:
    units = Units(cgroup)
    yield units
    for unit in units.all:
        unit.stop()


def ask(count: int = 1) -> set[str]:
    """Names of the servers that answer new flows."""
    names = set()
    for _ in range(count):
        with client() as sock:
            sock.settimeout(PATIENCE_S)
            sock.sendto(b"?", TO)
            names.add(sock.recv(100).decode().split()[0])
    return names


def enroll(host: Host, unit: Unit, *arguments: str) -> subprocess.CompletedProcess[str]:
    return host.run("enroll", WHERE, f"--cgroup={unit.cgroup}", *arguments)


DEVICE_AFTER_BIND = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", 4433))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
print("up", flush=True)
time.sleep(1000)
"""


def test_a_socket_that_has_left_its_group(
    host: Host, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refuse a server whose socket left the group, as ptp4l's does, without waiting.

    Such a socket takes packets, so the timeout would change nothing.
    """
    other = units.start("other")  # so that there is a group
    assert enroll(host, other, "--count=2", "--gen=0").returncode == 0
    monkeypatch.setattr(sys.modules[__name__], "SERVER", DEVICE_AFTER_BIND)
    done = enroll(host, units.start("unit"), "--gen=1", "--timeout=1000")
    assert done.returncode == 255
    assert f"1 of 1 sockets at {WHERE} are in no reuseport group of the kernel" in done.stderr


def test_an_instance_gets_no_packet_before_it_is_promoted(host: Host, units: Units) -> None:
    old = units.start("old")
    assert enroll(host, old, "--count=2", "--gen=0").returncode == 0
    assert ask(20) == {"old"}
    new = units.start("new")
    assert ask(50) == {"old"}
    done = enroll(host, new, "--count=2")
    assert (done.returncode, done.stdout) == (0, f"{WHERE} app 0 gen 1: 2 sockets\n")
    assert ask(50) == {"old"}
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(b"?", TO)
        assert sock.recv(100).startswith(b"old")
        assert host.run("working-gen", WHERE, "newest").returncode == 0
        assert ask(50) == {"new"}
        sock.sendto(b"?", TO)
        assert sock.recv(100).startswith(b"old")


def test_bound_before_the_hooks(bare_host: Host, units: Units) -> None:
    unit = units.start("early")
    bare_host.start()
    assert enroll(bare_host, unit, "--count=2", "--gen=0").returncode == 0
    assert bare_host.group(WHERE)["generations"][0]["sockets_alive"] == 2


def test_enrolling_twice_changes_nothing(host: Host, units: Units) -> None:
    unit = units.start("server")
    first = host.json("enroll", WHERE, f"--cgroup={unit.cgroup}", "--count=2", "--gen=3")
    assert host.json("enroll", WHERE, f"--cgroup={unit.cgroup}", "--count=2", "--gen=3") == first
    assert sorted(item["index"] for item in first["sockets"]) == [0, 1]


def test_an_address_on_two_devices(host: Host, cgroup: Path) -> None:
    """Enroll sockets in a group for each device, those that the server binds later too."""
    server = """
import socket, sys
def bind(device):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    sock.bind(("0.0.0.0", 4433))
    return sock
held = [bind(b"veth5"), bind(b"veth6")]
print("up", flush=True)
sys.stdin.readline()
held += [bind(b"veth5"), bind(b"veth6")]
print("more", flush=True)
sys.stdin.readline()
"""
    child = cgroup / "devices"
    child.mkdir()
    subprocess.run(
        ["ip", "link", "add", "veth5", "type", "veth", "peer", "name", "veth6"], check=True
    )
    try:
        with subprocess.Popen(
            inside(child, sys.executable, "-c", server),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == "up\n"
            where = "0.0.0.0:4433"
            done = host.run("enroll", where, f"--cgroup={child}", "--count=2", "--gen=1")
            assert done.returncode == 0, done.stderr
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "more\n"

            def counts() -> list[int]:
                groups = host.json("list", where)["groups"]
                return [len(group["generations"][0]["sockets"]) for group in groups]

            wait_for(lambda: counts() == [2, 2], "the later sockets")
            process.communicate("")
    finally:
        subprocess.run(["ip", "link", "delete", "veth5"], check=True)
        child.rmdir()


def test_a_worker_that_is_started_again(host: Host, units: Units) -> None:
    unit = units.start("server")
    assert enroll(host, unit, "--count=2", "--gen=0").returncode == 0
    dead = unit.workers()[0]
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: dead not in unit.workers() and len(unit.workers()) == 2, "a new worker")
    wait_for(
        lambda: host.group(WHERE)["generations"][0]["sockets_alive"] == 2,
        "its socket to be enrolled",
    )
    assert ask(50) == {"server"}


@pytest.mark.parametrize(
    "options, arguments, complaint",
    [
        ({"reuseport": 0, "workers": 1}, [], "is bound without SO_REUSEPORT"),
        ({}, ["--count=3", "--timeout=0"], "2 of 3 sockets are bound to 127.0.0.1:4433"),
    ],
)
def test_refusals(
    host: Host, units: Units, options: dict[str, int], arguments: list[str], complaint: str
) -> None:
    done = enroll(host, units.start("server", **options), *arguments)
    assert done.returncode == 255
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_has_failed(host: Host, units: Units) -> None:
    """Report that the server has failed at once, however long the timeout is."""
    unit = units.start("server")
    (unit.cgroup / "cgroup.kill").write_text("1")
    unit.process.wait()
    wait_for(lambda: not unit.cgroup_processes(), "its end")
    done = enroll(host, unit, "--timeout=3000")  # longer than any command may take here
    assert (done.returncode, "has the server failed?" in done.stderr) == (255, True)


def test_what_a_server_binds_instead_is_reported(host: Host, units: Units) -> None:
    unit = units.start("server")
    arguments = ("enroll", "127.0.0.1:5353", f"--cgroup={unit.cgroup}", "--timeout=0")
    assert f"its processes have {WHERE}" in host.run(*arguments).stderr


def test_no_hooks(bare_host: Host, units: Units) -> None:
    bare_host.start(install=False)
    done = enroll(bare_host, units.start("server"))
    assert (done.returncode, "udpgrm hooks add" in done.stderr) == (255, True)
