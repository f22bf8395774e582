# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The daemon as scripts and service managers see it: reference, section 4.

test_daemon.py and test_footprint.py have the rest of it: sd_notify, sleep, memory, latency.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from testing.host import COMMAND, ROOT, Host, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel import sockopts as grm
from udpgrm.kernel import cgroups

ADDRESS = "127.0.0.1:4433"


def open_descriptors(host: Host) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def events(host: Host) -> list[str]:
    """Return the part of each line on stdout that scripts look for."""
    return [
        re.split(r" (?=127\.0\.0\.1|so_cookie)", line)[0]
        for line in host.events.read_text().splitlines()
    ]


SERVER = """
import sys
from tests.kernel import sockopts as grm
from udpgrm.kernel import cgroups
sockets = [grm.udp(port=int(sys.argv[1])) for _ in range(3)]
for sock in sockets:
    grm.register(sock, 1)
print("ready", flush=True)
sys.stdin.read()
"""


def test_descriptors_stay_the_same(host: Host, sockets: list[socket.socket]) -> None:
    """Hold as many descriptors with groups, sockets and processes as without, and after them."""
    before = open_descriptors(host)
    servers = []
    try:
        for port in range(5000, 5004):
            server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            servers.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            wait_for(lambda: open_descriptors(host) == before, "the descriptors of before")
        for port in range(6000, 6010):
            sock = grm.udp(port=port)
            sockets.append(sock)
            grm.register(sock, 1)
            grm.put(sock, grm.WORKING_GEN, grm.u32(1))
            grm.put(sock, grm.SOCKET_GEN, grm.u32(2))
        wait_for(lambda: events(host).count("setting working gen") == 10, "the promotions")
        wait_for(lambda: open_descriptors(host) == before, "the descriptors of before")
    finally:
        for server in servers:
            server.communicate(b"")
    for sock in sockets:
        sock.close()
    wait_for(lambda: host.run("list").stdout == "", "the groups to be collected")
    wait_for(lambda: open_descriptors(host) == before, "the descriptors of before")


def test_descriptors_of_labelled_groups(bare_host: Host, sockets: list[socket.socket]) -> None:
    """Hold a descriptor of each socket until tubular has it, or its first call has failed."""
    # held however long the test takes
    patient = f"import udpgrm.daemon.tubular as tubular; tubular._HOLD_S = {PATIENCE_S}"
    bare_host.start(f"--tubular={bare_host.scratch}/absent", fault=patient)
    before = open_descriptors(bare_host)
    for _ in range(3):
        sock = grm.udp()
        sockets.append(sock)
        grm.put(sock, grm.DISSECTOR, grm.dissector(grm.FLOW, label=b"edge"))
        grm.register(sock, 1)
    wait_for(lambda: open_descriptors(bare_host) == before + 3, "a descriptor for each")
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(1))
    wait_for(lambda: open_descriptors(bare_host) == before, "the descriptors of before")
    # the daemon says so once its thread has closed the descriptors
    failed = "Tubular register failed: "
    wait_for(lambda: any(line.startswith(failed) for line in events(bare_host)), "the failure")
    assert bare_host.errors.read_text().splitlines() == [
        "Loading BPF",
        f"Pinning bpf programs to {bare_host.directory}",
        f"Installing BPF into cgroup {bare_host.cgroup}",
        f"Tubular path {bare_host.scratch}/absent",
        "Tailing message ring buffer",
    ]
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(1))
    wait_for(
        lambda: "No new sockets to register to tubular" in bare_host.events.read_text(),
        "the second attempt",
    )


def test_events_of_a_registration(host: Host, sockets: list[socket.socket]) -> None:
    """Print that a registration creates, finds and registers, and nothing in between."""
    sockets.append(grm.udp())
    grm.register(sockets[0], 7)
    created = ["socket group created", "socket found", "registering socket"]
    assert events(host) == created
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(7))
    promoted = ["Working gen app=0 7", "setting working gen"]
    wait_for(lambda: events(host) == created + promoted, "the promotion")
    grm.put(sockets[0], grm.SOCKET_GEN, grm.u32(7))
    again = [*created[1:], "registering socket again is legal but weird"]
    wait_for(lambda: events(host) == created + promoted + again, "the registration")
    assert len(host.errors.read_text().splitlines()) == 4


def test_events_of_a_promotion_that_creates(host: Host, sockets: list[socket.socket]) -> None:
    sockets.append(grm.udp())
    grm.put(sockets[0], grm.WORKING_GEN, grm.u32(3))
    wait_for(
        lambda: (
            events(host)
            == [
                *("socket group created", "socket found"),
                *("Working gen app=0 3", "setting working gen"),
            ]
        ),
        "the promotion",
    )


def test_events_of_a_group_that_no_daemon_has_seen(
    host: Host, sockets: list[socket.socket]
) -> None:
    """Print the creation of a group made while no daemon ran, but not of earlier groups."""
    sockets.append(grm.udp())
    grm.register(sockets[0], 1)
    host.kill()
    sockets.append(grm.udp(port=4434))
    grm.put(sockets[1], grm.SOCKET_GEN, grm.u32(1))
    grm.put(sockets[0], grm.SOCKET_GEN, grm.u32(2))
    host.start()
    registered = ["socket found", "registering socket"]
    wait_for(lambda: len(events(host)) >= 5, "the registrations")
    assert events(host) == ["socket group created", *registered, *registered]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_hooks_are_gone_when_it_exits(
    host: Host, sockets: list[socket.socket], number: signal.Signals
) -> None:
    for port in range(5000, 5010):
        sockets.append(grm.udp(port=port))
        grm.register(sockets[-1], 1)
    host.process.send_signal(number)
    assert host.process.wait() == 0
    for option in range(200, 205):
        assert grm.get_error(sockets[0], option) == 92  # ENOPROTOOPT
        assert grm.put_error(sockets[0], option, grm.u32(1)) == 92
    assert not host.directory.exists()


def test_a_second_daemon(host: Host, sockets: list[socket.socket]) -> None:
    """Refuse a second daemon with one line more; the first one continues."""
    done = host.run("--daemon", f"--install={host.cgroup}")
    assert (done.returncode, done.stdout) == (255, "")
    *steps, refusal = done.stderr.splitlines()
    assert steps == ["Loading BPF"]
    assert re.search(rf"Looks like {re.escape(str(host.directory))} .*exists", refusal)
    sockets.append(grm.udp())
    assert grm.register(sockets[0], 1) == 0


def test_force_starts_beside_it(host: Host, sockets: list[socket.socket]) -> None:
    first = host.process
    host.start("--force")
    first.terminate()
    assert first.wait() == 0
    sockets.append(grm.udp())
    assert grm.register(sockets[0], 1) == 0


def test_install_alone(bare_host: Host, sockets: list[socket.socket]) -> None:
    """Attach the hooks that the daemon has pinned before the second call returns."""
    bare_host.start(install=False)
    sockets.append(grm.udp())
    assert grm.get_error(sockets[0], grm.WORKING_GEN) == 92
    done = bare_host.run(f"--install={bare_host.cgroup}", "--without-sendmsg")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Installing BPF into cgroup {bare_host.cgroup}\n"
    sockets.append(grm.udp())
    assert grm.register(sockets[1], 1) == 0
    sockets[1].sendto(b"x", ("127.0.0.1", 9))
    assert "tx_total 0" in bare_host.run("list", "-v").stdout


def test_self(bare_host: Host, sockets: list[socket.socket]) -> None:
    """Attach the hooks to the daemon's own cgroup, below the default root."""
    bare_host.start("--install", "--self", install=False)
    assert f"Installing BPF into cgroup {bare_host.cgroup}\n" in bare_host.errors.read_text()
    sockets.append(grm.udp())
    assert grm.register(sockets[0], 1) == 0
    root = cgroups.default_root()
    assert not [text for text in bare_host.json("hooks", "list")["cgroups"] if text == str(root)]


def test_stdout_is_not_buffered(bare_host: Host, sockets: list[socket.socket]) -> None:
    """Give a pipe's reader each line at once."""
    daemon = subprocess.Popen(
        [*COMMAND, "-d", f"-p{bare_host.directory}", f"-i{bare_host.cgroup}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stderr is not None
        assert daemon.stdout is not None
        while daemon.stderr.readline() != "Tailing message ring buffer\n":
            assert daemon.poll() is None
        sockets.append(grm.udp())
        grm.register(sockets[0], 1)
        for message in ("socket group created", "socket found", "registering socket"):
            assert daemon.stdout.readline().startswith(message)
    finally:
        daemon.terminate()
        assert daemon.wait() == 0
        daemon.communicate()
