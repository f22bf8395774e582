# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A server that ran before udpgrm came is seen, and moved gracefully once it is adopted."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from testing.host import client, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import FLOW_S, WHERE, Edge, Traffic, serving_only

__all__ = ["edge"]

ADOPT = ("adopt", "edge", "--unit=edge-old.service")
#: Knows nothing of udpgrm: sockets with or without SO_REUSEPORT, each with clients of its own, as
#: threads have, bound in another order than their cookies are. Closes some again. Answers `?` with
#: 0, and `!` with the number of packets that went astray.
OLD_SERVER = """
import os, select, socket, sys
sockets, owners, strays, closed = [], {}, 0, sys.argv[4:]
for _ in range(int(sys.argv[3]) + len(closed)):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(sys.argv[1]))
    sock.getsockopt(socket.SOL_SOCKET, 57, 8)  # SO_COOKIE
    sockets.insert(0, sock)
for sock in sockets:
    sock.bind(("127.0.0.1", int(sys.argv[2])))
for number in closed:
    sockets.pop(int(number)).close()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, peer = sock.recvfrom(2048)
        strays += owners.setdefault(peer, sock) is not sock
        answers = {b"?": b"0", b"!": b"%d" % strays}
        sock.sendto(answers.get(data, data), peer)
"""


def start_old(
    edge: Edge, reuseport: int = 1, port: int = 4433, sockets: int = 1, closed: str = ""
) -> None:
    """Start edge-old.service, as an administrator had it; closed: numbers of sockets besides."""
    server = edge.units / "old.py"
    server.write_text(OLD_SERVER)
    command = f"{sys.executable} {server} {reuseport} {port} {sockets} {closed}"
    (edge.units / "edge-old.service").write_text(command)
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)


def ask(sock: socket.socket, question: bytes) -> int:
    """Return the server's number."""
    sock.sendto(question, ("127.0.0.1", 4433))
    return int(sock.recv(100))


def processed(edge: Edge) -> int:
    """Return how many packets the group's program has got."""
    [group] = edge.host.json("list", WHERE)["groups"]
    return int(group["metrics"]["rx_processed_total"])


@contextlib.contextmanager
def asking(clients: list[socket.socket]) -> Iterator[None]:
    """Let each client ask again and again, one at a time."""
    done = threading.Event()

    def run() -> None:
        for sock in itertools.cycle(clients):
            if done.is_set():
                return
            ask(sock, b"?")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def define(edge: Edge, flow_timeout: int = FLOW_S, **changes: Any) -> None:
    """Define the service with the flow dissector and this timeout of its flows."""
    flow = {"name": "flow", "parameters": {"flow_timeout": flow_timeout}}
    edge.define(groups=[{"address": WHERE, "sockets": 2, "dissector": flow}], **changes)


#: Binds its socket again on SIGHUP, without SO_REUSEPORT.
BINDS_AGAIN = """
import os, signal, socket, sys
def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 4433))
    return sock
class Again(Exception): pass
def again(*_):
    raise Again
sock = bound()
signal.signal(signal.SIGHUP, again)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    try:
        data, peer = sock.recvfrom(2048)
        sock.sendto(b"0" if data == b"?" else data, peer)
    except Again:
        sock.close()
        sock = bound()
"""


@pytest.mark.parametrize("how", ["binds again", "is started again"])
def test_a_unit_that_binds_again_after_its_adoption(edge: Edge, how: str) -> None:
    """Enter the new socket of a unit that binds again, without SO_REUSEPORT, in its generation."""
    edge.run_plain_server()
    (edge.units / "old.py").write_text(BINDS_AGAIN)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/old.py")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    assert edge.host.run(*ADOPT).returncode == 0
    [before] = edge.host.group(WHERE)["generations"]
    if how == "binds again":
        shown = ["systemctl", "show", "--property=MainPID", "--value", "--", "edge-old.service"]
        done = subprocess.run(shown, capture_output=True, text=True, check=True)
        os.kill(int(done.stdout), signal.SIGHUP)
    else:
        subprocess.run(["systemctl", "restart", "edge-old.service"], check=True)

    def entered() -> bool:
        generations = edge.host.group(WHERE)["generations"]
        return [item["generation"] for item in generations if item["sockets_alive"]] == [0] and (
            [item["sockets"] for item in generations] != [before["sockets"]]
        )

    wait_for(entered, "the new socket to be entered")
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        assert ask(sock, b"?") == 0
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr
    assert serving_only(edge, 1)


#: Binds any address and each of the host's, as NTP servers do, all without SO_REUSEPORT.
EACH_ADDRESS = """
import os, select, socket
sockets = []
for address in ("0.0.0.0", "127.0.0.1"):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, 4433))
    sockets.append(sock)
for sock in sockets:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, peer = sock.recvfrom(2048)
        sock.sendto(b"0" if data == b"?" else data, peer)
"""


def test_a_unit_at_any_address_and_at_each(edge: Edge) -> None:
    """Refuse the wildcard address alone, as its socket conflicts with the other; adopt both."""
    server = edge.units / "old.py"
    server.write_text(EACH_ADDRESS)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {server}")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    edge.define(groups=[{"address": "0.0.0.0:4433"}], enrollment="adopted")
    done = edge.host.run(*ADOPT)
    assert done.returncode == 255
    have = f"its processes have 0.0.0.0:4433, {WHERE}"
    assert f"name every address of the port as a group ({have})" in done.stderr
    every = [{"address": WHERE}, {"address": "0.0.0.0:4433"}]
    edge.define(groups=every, enrollment="adopted", probes=[{"type": "echo", "address": WHERE}])
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        assert edge.host.run(*ADOPT).returncode == 0
        assert ask(sock, b"?") == 0
    shown = edge.host.json("status")["services"][0]["groups"]
    assert [one["unsteered"] for one in shown] == [[], []]
    for one in every:
        [item] = edge.host.group(one["address"])["generations"]
        assert (item["generation"], item["sockets_alive"]) == (0, 1)


def is_active(unit: str) -> bool:
    shown = subprocess.run(
        ["systemctl", "show", "--property=ActiveState", "--value", "--", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.strip() == "active"


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_a_restart_would_cut_it_off(edge: Edge, arguments: list[str]) -> None:
    """Refuse the restart, and --check of it, before anything is changed."""
    start_old(edge)
    with Traffic(1) as traffic:
        done = edge.restart(*arguments)
    assert done.returncode == 255
    assert "of edge-old.service is in no generation" in done.stderr
    assert "udpgrm adopt edge --unit edge-old.service" in done.stderr
    assert (traffic.lost, traffic.moved, edge.alive()) == (0, 0, [])
    assert not (edge.state / "edge.json").exists()
    [group] = edge.host.json("status")["services"][0]["groups"]
    [stray] = group["unsteered"]
    assert stray["unit"] == "edge-old.service"
    assert f"unsteered: pid {stray['pid']} of edge-old.service" in edge.host.run("status").stdout


@pytest.mark.parametrize("reuseport", [1, 0], ids=["reuseport", "exclusive"])
def test_the_first_restart_moves_it(edge: Edge, reuseport: int) -> None:
    define(edge)
    start_old(edge, reuseport)
    with Traffic() as traffic:
        plan = edge.host.json(*ADOPT, "--check")
        assert (plan["generation"], plan["changed"], plan["sockets"]) == (0, True, {WHERE: 1})
        assert edge.host.json("list", WHERE)["groups"] == []
        done = edge.host.json(*ADOPT)
        assert {**plan, "notes": done["notes"]} == done
        assert done["notes"][0].startswith(f"{WHERE}: a client's flow is known once")
        fewer = f"{WHERE}: edge-old.service has 1 of the 2 sockets that the definition says"
        assert plan["notes"][1].startswith(fewer)
        again = edge.host.json(*ADOPT)
        assert (again["generation"], again["changed"]) == (0, False)
        [group] = edge.host.json("status")["services"][0]["groups"]
        assert [item["instance"] for item in group["generations"]] == ["edge-old.service"]
        assert group["unsteered"] == []
        traffic.await_answers()  # a client's flow is known once it has got a packet
        command = edge.start("restart", "edge", "--json")
        edge.await_step("drain")
        assert is_active("edge-old.service")
    printed, errors = command.communicate(timeout=200)
    assert command.returncode == 0, printed + errors
    journal: dict[str, Any] = json.loads(printed)
    assert (journal["from_generation"], journal["to_generation"]) == (0, 1)
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert not is_active("edge-old.service")
    assert serving_only(edge, 1)
    assert edge.restart().returncode == 0
    assert serving_only(edge, 2)
    refused = edge.host.run(*ADOPT)
    assert "unit edge-old.service has no cgroup: it does not run" in refused.stderr


LONG_S = 600
UNKNOWN = "clients to which it has sent nothing since lose"


def test_clients_that_an_adoption_does_not_know_yet(edge: Edge) -> None:
    """Name them in a plan until the flow timeout has passed (tests/unit/restart)."""
    start_old(edge)
    define(edge, LONG_S)
    assert edge.host.run(*ADOPT).returncode == 0
    done = edge.host.run("restart", "edge", "--check")
    assert UNKNOWN in done.stdout, done.stderr
    (note,) = edge.host.json("restart", "edge", "--check")["notes"]
    assert UNKNOWN in note


#: Answers from a socket of its own, as servers of TFTP do.
ANSWERS_ELSEWHERE = """
import os, socket
serving, answering = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
serving.bind(("127.0.0.1", 4433))
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    answering.sendto(b"0", serving.recvfrom(2048)[1])
"""


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_server_that_answers_from_another_socket(edge: Edge, elsewhere: bool) -> None:
    """Warn in the plan of a restart that no flow of such a server is known."""
    edge.run_plain_server()
    define(edge)
    if elsewhere:
        (edge.units / "old.py").write_text(ANSWERS_ELSEWHERE)
        (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/old.py")
        subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    else:
        start_old(edge)
    assert edge.host.run(*ADOPT).returncode == 0
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        for _ in range(30):
            assert ask(sock, b"?") == 0
    note = f"{WHERE}: generation 0 has got 30 packets and sent none from there: if its server"
    assert (note in edge.host.run("restart", "edge", "--check").stdout) == elsewhere


@pytest.mark.parametrize("options", [[], ["--release=2"]])
def test_a_restart_in_the_foreground_names_unknown_clients(edge: Edge, options: list[str]) -> None:
    start_old(edge)
    define(edge, LONG_S)
    assert edge.host.run(*ADOPT).returncode == 0
    done = edge.host.run("restart", "edge", "--foreground", *options)
    # whatever becomes of it: the servers of the tests ask for another flow timeout
    assert done.stderr.count(UNKNOWN) == 1


#: Code of the old server, run before it is ready.
MULTICAST = """
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 8)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton("224.0.1.129") + socket.inet_aton("127.0.0.1"))
channel = """


def test_a_server_whose_packets_reach_each_instance(edge: Edge) -> None:
    """Name multicast groups and packet sockets of a unit, at its adoption and in the plan."""
    define(edge)
    server = edge.units / "old.py"
    server.write_text(OLD_SERVER.replace("channel = ", MULTICAST.strip("\n"), 1))
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {server} 1 4433 1")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    for command in (ADOPT, ("restart", "edge", "--check")):
        printed = edge.host.run(*command).stdout
        assert f"{WHERE}: member of a multicast group: multicast packets reach every" in printed
        assert "has a packet socket: what it reads there reaches each instance" in printed


@pytest.mark.parametrize("closed", ["", "0 3"])
def test_each_client_stays_at_its_socket(edge: Edge, closed: str) -> None:
    """Keep each client at the socket that the kernel's hash selected before the adoption.

    Sockets are entered one by one; those that come first get no other's packets meanwhile. Their
    order is that of the kernel, which has put others in the place of those that were closed.
    """
    define(edge, flow_timeout=600)  # no drain waits for their end
    start_old(edge, sockets=32, closed=closed)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client()) for _ in range(64)]
        for sock in clients:
            sock.settimeout(PATIENCE_S)
            assert ask(sock, b"?") == 0
        with asking(clients[:32]):
            done = edge.host.json(*ADOPT)
        assert done["sockets"] == {WHERE: 32}
        for sock in clients:  # no flow of those that were silent is known yet
            assert ask(sock, b"!") == 0
        before = processed(edge)
        assert ask(clients[0], b"!") == 0
        assert processed(edge) == before + 1


def test_a_rollback_goes_back_to_it(edge: Edge) -> None:
    edge.unit("mute-1")
    define(edge)
    start_old(edge)
    with Traffic() as traffic:
        assert edge.host.run(*ADOPT).returncode == 0
        traffic.await_answers()
        assert edge.restart().returncode == 1
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert is_active("edge-old.service") and edge.alive() == []
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(b"?", ("127.0.0.1", 4433))
        assert sock.recv(10) == b"0"
