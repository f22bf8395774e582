# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Connected sockets are flows of the generation whose process made them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import ROOT, Host, client, close, inside, wait_for
from testing.waiting import PATIENCE_S
from udpgrm.restart.groups import Groups
from udpgrm.restart.plan import Refused
from udpgrm.services.definition import Group
from udpgrm.state.connected import connect_parts

pytestmark = pytest.mark.daemon("shared")

WHERE = "0.0.0.0:4433"
TARGET = ("127.0.0.1", 4433)
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    """Sockets that live as long as the test."""
    with contextlib.ExitStack() as stack:
        yield stack


def group_of(held: contextlib.ExitStack, generation: int, where: str = WHERE) -> socket.socket:
    """Return a registered socket of a generation, which becomes the working one."""
    [sock] = grm.bind(where)
    held.enter_context(sock)
    grm.enroll([sock], generation)
    grm.promote(sock, generation)
    return sock


def accept(peer: tuple[str, int], where: tuple[str, int] = ("0.0.0.0", 4433)) -> socket.socket:
    """Return a connected socket at the address of the group, as a server makes one for a peer."""
    sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(where)
    sock.connect(peer)
    return sock


def disconnect(sock: socket.socket) -> None:
    """Disconnect a socket: connect(2) to AF_UNSPEC."""
    assert _libc.connect(sock.fileno(), bytes(16), 16) == 0


def generation(host: Host, number: int, where: str = WHERE) -> dict[str, Any]:
    """Return a generation as `udpgrm list` reports it."""
    for item in host.group(where)["generations"]:
        if item["generation"] == number:
            found: dict[str, Any] = item
            return found
    return {"connected": 0, "flows": 0, "sockets_alive": 0}


def connected(host: Host, number: int, where: str = WHERE) -> int:
    """Return the count of connected sockets of a generation."""
    count: int = generation(host, number, where)["connected"]
    return count


def await_connected(host: Host, number: int, count: int, where: str = WHERE) -> None:
    """Wait until a generation has so many: another test's doctor may have duplicates of some."""
    wait_for(lambda: connected(host, number, where) == count, f"{count} connected sockets")


@pytest.mark.parametrize(
    ("where", "at", "peer"),
    [
        ("0.0.0.0:4433", ("0.0.0.0", 4433), ("127.0.0.1", 9)),
        ("127.0.0.1:4433", ("127.0.0.1", 4433), ("127.0.0.1", 9)),
        ("[::]:4433", ("::", 4433), ("::1", 9)),
        ("[::1]:4433", ("::1", 4433), ("::1", 9)),
        ("[::]:4433", ("::", 4433), ("::ffff:127.0.0.1", 9)),
        ("0.0.0.0:4433", ("::ffff:0.0.0.0", 4433), ("::ffff:127.0.0.1", 9)),
    ],
)
def test_a_socket_is_a_flow_until_it_is_closed(
    host: Host, held: contextlib.ExitStack, where: str, at: tuple[str, int], peer: tuple[str, int]
) -> None:
    group_of(held, 1, where)
    assert connected(host, 1, where) == 0
    with accept(peer, at):
        found = generation(host, 1, where)
        assert (found["connected"], found["flows"], found["sockets_alive"]) == (1, 1, 1)
        with accept(peer, at) as another:
            copy = os.dup(another.fileno())
        assert connected(host, 1, where) == 2
        os.close(copy)
        await_connected(host, 1, 1, where)
    await_connected(host, 1, 0, where)


def test_each_is_of_the_generation_that_its_process_had_then(
    host: Host, held: contextlib.ExitStack
) -> None:
    group_of(held, 1)
    first = [held.enter_context(accept(("127.0.0.1", port))) for port in range(1000, 1005)]
    group_of(held, 2)
    held.enter_context(accept(("127.0.0.1", 9)))
    assert [connected(host, number) for number in (1, 2)] == [5, 1]
    close(first[0])
    disconnect(first[1])
    first[2].connect(("127.0.0.1", 999))
    with contextlib.suppress(OSError):
        first[3].connect(("203.0.113.1", 9))  # no route: it stays connected
    assert [connected(host, number) for number in (1, 2)] == [3, 1]


def test_one_that_its_server_enrolls_by_itself(host: Host, held: contextlib.ExitStack) -> None:
    group_of(held, 1)
    [sock] = grm.bind(WHERE)
    held.enter_context(sock)
    grm.enroll([sock], 2)
    sock.connect(("127.0.0.1", 9))
    assert connected(host, 2) == 1


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_any_address_stays_that_of_a_connected_socket(
    host: Host, held: contextlib.ExitStack, ip: str
) -> None:
    """Keep a connected socket in the group of the wildcard address it was bound to.

    The kernel shows another address of it then.
    """
    where = "[::]:4433" if ip == "::" else WHERE
    group_of(held, 1, where)
    sock = held.enter_context(
        accept(("::ffff:127.0.0.1" if ":" in ip else "127.0.0.1", 9), (ip, 4433))
    )
    assert sock.getsockname()[0] != ip
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
    grm.promote(sock, 2)
    applications = host.group(where)["applications"]
    assert [item["working_generation"] for item in applications] == [2]


def test_workers_that_are_forked(host: Host, held: contextlib.ExitStack) -> None:
    """Put a forked child into its parent's generation, whatever else its cgroup has enrolled."""
    group_of(held, 1)
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
from tests.kernel.connections.test_connected import accept
[sock] = grm.bind("0.0.0.0:4433")
grm.enroll([sock], 2, 120)
go, ready = os.pipe(), os.pipe()
if os.fork() == 0:
    os.read(go[0], 1)
    kept = accept(("127.0.0.1", 9)), accept(("127.0.0.1", 10))
    os.write(ready[1], b"x")
    sys.stdin.read()
    os._exit(0)
print("up", flush=True)
sys.stdin.readline()
os.write(go[1], b"x")
os.read(ready[0], 1)
print("made", flush=True)
sys.stdin.read()
os.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "up\n"
        group_of(held, 3)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "made\n"
        assert [connected(host, number) for number in (1, 2, 3)] == [0, 2, 0]
    wait_for(lambda: connected(host, 2) == 0, "the workers' end")


@pytest.mark.daemon("own")
def test_after_the_daemon_was_killed(host: Host, held: contextlib.ExitStack) -> None:
    group_of(held, 1)
    held.enter_context(accept(("127.0.0.1", 9)))
    host.kill()
    held.enter_context(accept(("127.0.0.1", 10)))
    assert connected(host, 1) == 2
    host.start()
    held.enter_context(accept(("127.0.0.1", 11)))
    assert connected(host, 1) == 3


def test_a_descriptor_that_is_handed_on(host: Host, held: contextlib.ExitStack) -> None:
    """Count a connected socket while its only descriptor is in flight between two processes."""
    group_of(held, 1)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        with accept(("127.0.0.1", 9)) as sock:
            socket.send_fds(here, [b"x"], [sock.fileno()])
        assert connected(host, 1) == 1
        _, [fd], *_ = socket.recv_fds(there, 1, 1)
        assert connected(host, 1) == 1
        os.close(fd)
    await_connected(host, 1, 0)


def test_a_generation_without_other_sockets(host: Host, held: contextlib.ExitStack) -> None:
    """Let the drain wait for a connected socket that is the last one of its generation."""
    old = group_of(held, 1)
    session = held.enter_context(accept(("127.0.0.1", 9)))
    group_of(held, 2)
    old.close()
    for _ in range(2):
        assert host.json("list")["daemon"]["running"]
        assert connected(host, 1) == 1
    command = ("drain", WHERE, "1", "--flows=0")
    done = host.run(*command, "--max=0", "--json")
    assert (done.returncode, '"connected": 1' in done.stdout) == (1, True)
    close(session)
    assert host.json(*command, "--max=30")["drained"] is True


@pytest.mark.daemon("own")
def test_a_group_whose_sockets_are_all_connected(host: Host, held: contextlib.ExitStack) -> None:
    old = group_of(held, 1)
    held.enter_context(accept(("127.0.0.1", 9)))
    old.close()
    # the daemon looks twice before it deletes a group: another group's end makes it look
    for port in (5001, 5002, 5003):
        other = group_of(held, 1, f"127.0.0.1:{port}")
        other.close()
    wait_for(
        lambda: [item["address"] for item in host.json("list")["groups"]] == [WHERE],
        "the others to be deleted",
    )
    assert connected(host, 1) == 1


def test_quiet_alone_is_not_to_be_seen(host: Host, held: contextlib.ExitStack) -> None:
    group_of(held, 1)
    session = held.enter_context(accept(("127.0.0.1", 9)))
    group_of(held, 2)
    assert host.run("drain", WHERE, "1", "--quiet=0", "--max=0").returncode == 1
    close(session)
    assert host.run("drain", WHERE, "1", "--quiet=0", "--max=0").returncode == 0


@pytest.mark.daemon("own")
def test_what_is_shown(host: Host, held: contextlib.ExitStack) -> None:
    group_of(held, 1)
    held.enter_context(accept(("127.0.0.1", 9)))
    metrics = host.run("metrics", "--prometheus").stdout
    labels = 'application="0",generation="1"'
    for name in ("flows", "connected_sockets"):
        [line] = [
            line
            for line in metrics.splitlines()
            if line.startswith(f"udpgrm_generation_{name}{{") and labels in line
        ]
        assert line.endswith(" 1")
    assert "udpgrm_unknown_connected_sockets{" in metrics


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    """Run a process that has made its sockets, until it is to end."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "made\n"
        yield


@contextlib.contextmanager
def connected_outside(cgroup: Path, *addresses: tuple[str, int]) -> Iterator[None]:
    """Have a process beside the hooked cgroup accept a session, at the addresses of `accept`."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.kernel.connections.test_connected import accept
kept = accept(*{addresses!r})
print("made", flush=True)
sys.stdin.read()
"""
    outside = cgroup.parent / f"{cgroup.name}-outside"
    outside.mkdir()
    try:
        with running(*inside(outside, sys.executable, "-c", code)):
            yield
    finally:
        outside.rmdir()


def test_sockets_outside_of_hooked_cgroups(
    host: Host, cgroup: Path, held: contextlib.ExitStack
) -> None:
    """Report sockets that connected without hooks, and do not wait for them."""
    group_of(held, 1)
    with connected_outside(cgroup, ("127.0.0.1", 9)):
        group_of(held, 2)
        assert host.group(WHERE)["connected_unknown"] == 1
        answer = host.json("drain", WHERE, "1", "--flows=0", "--max=30")
        assert (answer["drained"], answer["connected_unknown"]) == (True, 1)


def test_a_second_group_of_the_kernel(host: Host, cgroup: Path, held: contextlib.ExitStack) -> None:
    """Refuse a service with sockets connected without hooks; name the second group they cause."""
    where = "127.0.0.1:4433"
    sock = group_of(held, 1, where)
    groups = Groups(host.directory, [Group(where)])
    groups.refuse_second_groups()
    with connected_outside(cgroup, ("127.0.0.1", 9), ("127.0.0.1", 4433)):
        if not connect_parts():
            pytest.skip("this kernel leaves connected sockets in their group")
        with pytest.raises(Refused, match="1 sockets that were connected without hooks"):
            groups.refuse_second_groups()
        [diagnosis] = findings(host, where)
        assert diagnosis == (True, ["second_kernel_group"])
        [late] = grm.bind(where)
        held.enter_context(late)
        grm.enroll([late], 2)
    with pytest.raises(Refused, match="in 2 reuseport groups"):
        groups.refuse_second_groups()
    assert findings(host, where) == [(False, ["second_kernel_group"])] * 2
    assert grm.working_generation(sock) == 1


_GIVES_UP_ROOT = f"""
import os, socket, sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int("ungrouped" not in sys.argv))
    sock.bind((sys.argv[1], 4433))
    return sock
if "unenrolled" not in sys.argv:
    main = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        main.setsockopt(socket.SOL_SOCKET, option, 1)
    main.bind((sys.argv[1], 4433))
    grm.enroll([main], 1, {PATIENCE_S})
if "worker" in sys.argv and os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.setgroups([])
os.setresuid(65534, 65534, 65534)
accepted = bound()
accepted.connect(("127.0.0.1", 9))
print("made", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def giving_up_root(*words: str) -> Iterator[None]:
    """Yield a server that enrolls a socket as root, and connects one as another user."""
    with running(sys.executable, "-c", _GIVES_UP_ROOT, *words):
        yield


@pytest.mark.parametrize("at", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("how", ["itself", "worker", "ungrouped"])
def test_a_server_that_gives_up_root(host: Host, at: str, how: str) -> None:
    where = f"{at}:4433"
    with giving_up_root(at, how):
        assert connected(host, 1, where) == 1
        assert host.group(where)["connected_unknown"] == 0
        with giving_up_root(at, "unenrolled"):  # of no process that has enrolled
            assert connected(host, 1, where) == 1
            assert host.group(where)["connected_unknown"] == 1


@pytest.mark.daemon("own")
@pytest.mark.parametrize(
    "take_out",
    [disconnect, lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")],
    ids=["AF_UNSPEC", "SO_BINDTODEVICE"],
)
def test_a_socket_that_is_in_no_group_of_the_kernel(
    host: Host, held: contextlib.ExitStack, take_out: Callable[[socket.socket], object]
) -> None:
    """Refuse a service whose unconnected socket left the kernel's group.

    No hook sees that, and the socket gets packets whichever generation is promoted.
    """
    sock = group_of(held, 1)
    groups = Groups(host.directory, [Group(WHERE)])
    groups.refuse_second_groups()
    take_out(sock)
    with pytest.raises(Refused, match="in no reuseport group of the kernel"):
        groups.refuse_second_groups()
    assert findings(host, WHERE) == [(False, ["not_in_group"])]
    close(sock)
    group_of(held, 2)
    groups.refuse_second_groups()


def findings(host: Host, where: str) -> list[tuple[bool, list[str]]]:
    """Return whether each socket is steered, and the codes of what doctor finds wrong."""
    done = host.run("doctor", where, f"--pid={os.getpid()}", "--json")
    return [
        (item["steered"], [found["code"] for found in item["findings"] if found["problem"]])
        for item in json.loads(done.stdout)["sockets"]
    ]


@pytest.mark.daemon("own")
def test_groups_of_other_namespaces(host: Host, held: contextlib.ExitStack) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
from tests.kernel.connections.test_connected import accept
[sock] = grm.bind("0.0.0.0:4433")
grm.enroll([sock], 7, 120)
kept = [accept(("127.0.0.1", port)) for port in (9, 10, 11)]
print("made", flush=True)
sys.stdin.read()
"""
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    with running(*command, sys.executable, "-c", code):
        group_of(held, 1)
        held.enter_context(accept(("127.0.0.1", 9)))
        found = {
            item["generation"]: item["connected"]
            for group in host.json("list", WHERE)["groups"]
            for item in group["generations"]
        }
        assert found == {1: 1, 7: 3}


def test_sockets_of_clients_are_no_flows(host: Host, held: contextlib.ExitStack) -> None:
    """Count neither sockets connected to the service nor those of other services."""
    group_of(held, 1)
    group_of(held, 1, "127.0.0.1:5001")
    with client() as peer:
        peer.connect(TARGET)
        held.enter_context(accept(("127.0.0.1", 9), ("127.0.0.1", 5001)))
        assert connected(host, 1) == 0
        assert host.group(WHERE)["connected_unknown"] == 0
    assert connected(host, 1, "127.0.0.1:5001") == 1
