# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers of other shapes than those of other tests: which socket gets what of a client."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from testing.host import client
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import (
    ALSO,
    FLOW_S,
    TO,
    WHERE,
    Edge,
    Traffic,
    ask,
)

__all__ = ["edge"]

#: The kernel's longest tick, in which ages are counted.
TICK_S = 0.01
#: The old instance stays, however long the test takes.
KEPT = {"until": {"flows": 0, "quiet_s": None}, "max_s": 0.5, "on_timeout": "keep"}
_HEAD = """
import os, select, socket, sys, threading
generation = sys.argv[1].encode()
def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    return sock
def answer(data):
    return generation if data == b"?" else data
def ready():
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""
#: Makes a connected socket for each peer, which answers all of its packets.
PER_PEER = (
    _HEAD
    + """
def serve(sock, data):
    sock.settimeout(600)
    try:
        while True:
            sock.send(answer(data))
            data = sock.recv(2048)
    except OSError:
        sock.close()
listening = bound()
ready()
while True:
    data, peer = listening.recvfrom(2048)
    sock = bound()
    sock.connect(peer)
    threading.Thread(target=serve, args=(sock, data), daemon=True).start()
"""
)
#: Connects the socket that it receives a new peer on, and binds another one.
CONNECTS_LISTENING = PER_PEER.replace(
    "    sock = bound()\n    sock.connect(peer)\n", "    sock = listening\n    sock.connect(peer)\n"
).replace("    threading.Thread", "    listening = bound()\n    threading.Thread")
#: Continues each conversation from a port of its own, as servers of TFTP do.
ELSEWHERE = PER_PEER.replace(
    "    sock = bound()\n",
    "    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    '    sock.bind(("127.0.0.1", 0))\n',
)
#: Serves another address as well, of which nothing is in the definition.
TWO_ADDRESSES = (
    _HEAD
    + """
also = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
also.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sockets = [bound(), also]
try:
    also.bind(("127.0.0.1", 4434))
except OSError:
    if NEEDED:
        raise
    sockets.remove(also)
ready()
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, peer = sock.recvfrom(2048)
        sock.sendto(answer(data), peer)
"""
)
#: Answers with the other one of its two sockets.
CROSSWISE = (
    _HEAD
    + """
sockets = [bound(), bound()]
ready()
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, peer = sock.recvfrom(2048)
        sockets[sock is sockets[0]].sendto(answer(data), peer)
"""
)
#: Generation 0, or each if EACH, answers by a raw socket, whose sends no hook sees.
PAST_HOOKS = (
    _HEAD
    + """
import struct
sock = bound()
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
ready()
while True:
    data, peer = sock.recvfrom(2048)
    data = answer(data)
    if EACH or generation == b"0":
        header = struct.pack("!HHHH", 4433, peer[1], 8 + len(data), 0)
        raw.sendto(header + data, peer)
    else:
        sock.sendto(data, peer)
"""
)
#: Takes the sockets of the instance before, if one answers; ENROLL: sets its generation itself.
TAKES_OVER = (
    _HEAD
    + """
at = "\\0takes-over-" + os.environ["UNITS_CGROUP"]
door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
try:
    door.connect(at)
    sock = socket.socket(fileno=socket.recv_fds(door, 1, 1)[1][0])
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # nothing comes there
except OSError:
    sock = bound()
    door.bind(at)
    door.listen()
if ENROLL:
    sock.setsockopt(socket.IPPROTO_UDP, 201, int(generation))
ready()
while True:
    for one in select.select({door, sock}, [], [])[0]:
        if one is sock:
            data, peer = sock.recvfrom(2048)
            sock.sendto(answer(data), peer)
        else:
            socket.send_fds(door.accept()[0], [b"1"], [sock.fileno()])
            sock = door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
"""
)


def define(edge: Edge, server: str, sockets: int) -> None:
    """Let the service run a server that knows nothing of udpgrm."""
    path = edge.units / "shape.py"
    path.write_text(server)
    edge.unit(server=path)
    dissector = {"name": "flow", "parameters": {"flow_timeout": FLOW_S}}
    group = {"address": WHERE, "sockets": sockets, "dissector": dissector}
    edge.define(groups=[group], enrollment="adopted", drain=KEPT)


def run(edge: Edge, server: str, sockets: int) -> None:
    """Let the service run such a server, and start it."""
    define(edge, server, sockets)
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_socket_for_each_peer(edge: Edge) -> None:
    """Verify a flow of a connected socket, whose later packets no steering program sees.

    One client begins new flows, one after the other: of two, the server's next socket may get the
    packet of the second one before connect(2) has its way, without udpgrm as well.
    """
    run(edge, PER_PEER, 1)
    with Traffic(2) as traffic, client() as sock:
        assert ask(sock) == 1
        done = edge.restart("--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ask(sock) == 1
    assert (traffic.lost, traffic.moved) == (0, 0)
    [old] = step(done.stdout, "verify")["evidence"]["old_flows"]
    assert (old["received_generation"], old["path"]) == (1, "connected")
    assert edge.working() == 2


def test_conversations_at_other_ports_are_named(edge: Edge) -> None:
    """Say that a drain cannot see such conversations, and not that all clients have gone."""
    define(edge, ELSEWHERE, 1)
    edge.define(
        groups=[{"address": WHERE}],
        enrollment="adopted",
        probes=[],
        drain=KEPT,
    )
    assert edge.restart().returncode == 0
    with client() as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(b"?", TO)
        assert sock.recvfrom(100)[1] != TO
        done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    drain = step(done.stdout, "drain")
    assert drain["evidence"]["connected_elsewhere"] == 1
    assert "1 sockets at other ports are connected to peers" in drain["reason"]


def test_adopted_with_its_peers_by_reuseaddr_alone(edge: Edge) -> None:
    """Adopt a server with a socket for each peer and without SO_REUSEPORT, as DTLS servers are."""
    define(edge, PER_PEER.replace("SO_REUSEPORT", "SO_REUSEADDR"), 1)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/shape.py 0")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    with client() as first, client() as second:
        assert [ask(first), ask(second)] == [0, 0]
        done = edge.host.run("adopt", "edge", "--unit=edge-old.service")
        assert done.returncode == 0, done.stderr
        done = edge.restart()
        assert done.returncode == 0, done.stdout + done.stderr
        assert [ask(first), ask(second)] == [0, 0]
    with client() as third:
        assert ask(third) == 1


def test_a_server_that_connects_the_socket_of_all_peers(edge: Edge) -> None:
    """Refuse such a server: the canary's probe shows it of a new instance, a client of the old."""
    define(edge, CONNECTS_LISTENING, 1)
    assert CONNECTS_LISTENING.count("listening") == 4
    done = edge.restart("--json")
    assert done.returncode == 1, done.stdout + done.stderr
    reason = step(done.stdout, "canary")["reason"]
    assert "the server has connected the socket that serves all peers" in reason
    assert edge.alive() == []
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/shape.py 0")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    assert edge.host.run("adopt", "edge", "--unit=edge-old.service").returncode == 0
    with client() as first, client() as second:
        assert ask(first) == 0
        time.sleep(0.1)  # the hooks know the time in ticks
        assert ask(second) == 0
        for arguments in (["--check"], []):
            done = edge.restart(*arguments)
            assert done.returncode == 255, done.stdout + done.stderr
            assert "their server connects those that serve all peers" in done.stderr
        assert [ask(first), ask(second)] == [0, 0]
    assert edge.alive() == []


@pytest.mark.parametrize(
    ("option", "needed", "failed"),
    [
        pytest.param("SO_REUSEADDR", False, "canary", id="would take all"),
        pytest.param("SO_REUSEPORT", False, "canary", id="would take half"),
        pytest.param("SO_BROADCAST", False, "canary", id="runs without"),
        pytest.param("SO_REUSEADDR", True, "start", id="does not run without"),
    ],
)
def test_an_address_that_the_definition_lacks(
    edge: Edge, option: str, needed: bool, failed: str
) -> None:
    """Refuse the restart, which would move its clients, or cut them off at the stop."""
    server = TWO_ADDRESSES.replace("SO_REUSEADDR", option).replace("NEEDED", str(needed))
    run(edge, server, 1)
    with client() as first, client() as second:
        assert ask(first, (TO[0], 4434)) == 1
        done = edge.restart("--json")
        assert done.returncode == 1, done.stdout + done.stderr
        reason = step(done.stdout, failed)["reason"]
        assert "edge@2.service has tried to bind 127.0.0.1:4434" in reason
        assert edge.alive() == [1]
        assert [ask(sock, (TO[0], 4434)) for sock in (first, second)] == [1, 1]


@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
@pytest.mark.parametrize(
    ("first", "second", "tried"),
    [
        ("0.0.0.0", "127.0.0.1", "0.0.0.0:4434"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0:4434"),
        ("::", "127.0.0.1", "0.0.0.0:4434"),
        ("127.0.0.1", "::", "[::]:4434"),
    ],
)
def test_an_address_that_overlaps_with_one_that_the_definition_lacks(
    edge: Edge, option: str, first: str, second: str, tried: str
) -> None:
    """Refuse the restart, as the overlapping address would take clients now or after the stop."""
    chosen = f"{first!r} if sys.argv[1] == '1' else {second!r}"
    server = TWO_ADDRESSES.replace("SO_REUSEADDR", option).replace("NEEDED", "False")
    family = f"socket.AF_INET6 if ':' in ({chosen}) else socket.AF_INET"
    server = server.replace(
        "also = socket.socket(socket.AF_INET,", f"also = socket.socket({family},"
    )
    run(edge, server.replace('also.bind(("127.0.0.1",', f"also.bind(({chosen},"), 1)
    with client() as sock:
        assert ask(sock, (TO[0], 4434)) == 1
        done = edge.restart("--json")
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"edge@2.service has tried to bind {tried}" in step(done.stdout, "canary")["reason"]
        assert ask(sock, (TO[0], 4434)) == 1
    assert edge.alive() == [1]


def test_a_group_that_the_definition_gets_after_the_adoption(edge: Edge) -> None:
    """Name what the first adoption has not adopted, and add it with a second one."""
    define(edge, TWO_ADDRESSES.replace("SO_REUSEADDR", "SO_BROADCAST"), 1)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/shape.py 0")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    for addresses, left in ([WHERE], True), ([WHERE, ALSO], False):
        # flows that last longer than the test
        groups = [{"address": where} for where in addresses]
        edge.define(groups=groups, enrollment="adopted", drain=KEPT)
        done = edge.host.run("adopt", "edge", "--unit=edge-old.service")
        assert done.returncode == 0, done.stderr
        assert (f"edge-old.service has sockets at {ALSO}, too" in done.stdout) == left
    with client() as sock, client() as new:
        there = [TO, (TO[0], 4434)]
        assert [ask(sock, to) for to in there] == [0, 0]
        done = edge.restart()
        assert done.returncode == 0, done.stdout + done.stderr
        assert [ask(sock, to) for to in there] == [0, 0]
        assert [ask(new, to) for to in there] == [1, 1]


def test_an_answer_by_another_socket_of_the_instance(edge: Edge) -> None:
    """Refresh the flow; count no send on a flow of another instance."""
    run(edge, CROSSWISE, 2)
    with client() as sock:
        assert ask(sock) == 1
        time.sleep(0.5)
        begun = time.monotonic()
        assert ask(sock) == 1
        where = "{}:{}".format(*sock.getsockname())
        [group] = edge.host.json("flows", WHERE)["groups"]
        [flow] = [one for one in group["flows"] if one["remote"] == where]
        assert flow["age"] <= time.monotonic() - begun + TICK_S
    with Traffic(keep=False) as traffic:
        done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert traffic.lost == 0
    assert step(done.stdout, "drain")["evidence"]["conflicts"] == 0
    [group] = edge.host.json("status", "edge")["services"][0]["groups"]
    assert group["metrics"]["tx_flow_update_conflict"] > 0
    assert group["crossed"] == 0


def test_answers_past_the_hooks(edge: Edge) -> None:
    """Refuse the promotion, which would move all clients: no flow of theirs is known."""
    define(edge, PAST_HOOKS.replace("EACH", "False"), 1)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {edge.units}/shape.py 0")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    assert edge.host.run("adopt", "edge", "--unit=edge-old.service").returncode == 0
    with client() as sock:
        assert ask(sock) == 0
        done = edge.restart("--json")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "generation 0 answers, but past the hooks" in step(done.stdout, "promote")["reason"]
        assert ask(sock) == 0
    assert (edge.working(), edge.alive()) == (0, [])
    (edge.units / "shape.py").write_text(PAST_HOOKS.replace("EACH", "True"))
    done = edge.restart("--json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "generation 1 answers, but past the hooks" in step(done.stdout, "canary")["reason"]


def test_a_drain_of_answers_past_the_hooks(edge: Edge) -> None:
    """Report that no hook has seen the server send, as a count of no flows proves nothing then."""
    define(edge, PAST_HOOKS.replace("EACH", "True"), 1)
    edge.define(groups=[{"address": WHERE}], enrollment="adopted", probes=[], drain=KEPT)
    assert edge.restart().returncode == 0
    with client() as sock:
        assert ask(sock) == 1
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no hook has seen it send" in step(done.stdout, "drain")["reason"]


@pytest.mark.parametrize("enrolls", [False, True], ids=["adopted", "enrolled"])
def test_sockets_that_the_new_instance_takes_over(edge: Edge, enrolls: bool) -> None:
    """Refuse the enrollment and stop nothing: the instances' flows cannot be told apart."""
    define(edge, TAKES_OVER.replace("ENROLL", str(enrolls)), 1)
    if enrolls:
        edge.define(groups=[{"address": WHERE, "sockets": 1}], drain=KEPT)
    assert edge.restart().returncode == 0
    with client() as sock:
        assert ask(sock) == 1
        done = edge.restart("--json")
        assert done.returncode == 2, done.stdout + done.stderr
        reason = step(done.stdout, "enroll")["reason"]
        assert "1 sockets of edge@2.service" in reason
        assert "are those of the instance before" in reason
        assert (json.loads(done.stdout)["outcome"], edge.alive()) == ("failed", [1, 2])
        assert ask(sock) == 2  # as its servers do it


def step(out: str, name: str) -> dict[str, Any]:
    """Return a step of a journal that was printed."""
    steps: list[dict[str, Any]] = json.loads(out)["steps"]
    return next(one for one in steps if one["step"] == name)
