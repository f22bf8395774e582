# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A definition's dissector and flow table size, for a server without udpgrm support."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import client, plain_socket
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import TO, UNTIL_NO_FLOWS, WHERE, Edge, Traffic, ask, until
from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state import maps as state
from udpgrm.state.view import Viewer

__all__ = ["edge"]

#: Binds with SO_REUSEPORT, answers with its generation.
SERVER = """
import os, socket, sys
socks = []
for _ in range(2):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    socks.append(sock)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
channel.close()
if os.fork():
    sock = socks[0]
else:
    sock = socks[1]
while True:
    data, peer = sock.recvfrom(2048)
    sock.sendto(sys.argv[1].encode() if data == b"?" else data, peer)
"""


def define(edge: Edge, timeout: int, flows: int) -> None:
    dissector = {"name": "flow", "parameters": {"flow_timeout": timeout}}
    edge.define(
        groups=[{"address": WHERE, "sockets": 2, "dissector": dissector}],
        enrollment="adopted",
        flows_per_generation=flows,
        drain={**UNTIL_NO_FLOWS, "until": {"flows": None, "quiet_s": 2}},
    )


def test_adopted_with_the_definitions_dissector(edge: Edge) -> None:
    edge.server.write_text(SERVER)
    define(edge, timeout=9, flows=1024)
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert edge.host.group(WHERE)["dissector"]["flow_timeout"] == 9
    with Traffic(1) as old:
        maps = state.open_pinned(edge.host.directory)
        group = maps.group(next(Viewer(maps).group_ids(WHERE)))
        with maps.inner("flow_tables", group.table[abi.slot_of(1, 0, 1)]) as table:
            assert table is not None
            assert libbpf.map_info(table).max_entries == 1024
        maps.close()
        restart = edge.start()
        edge.await_step("drain")
        with client() as new:
            assert ask(new) == 2
        asked = old.asked
        until(lambda: old.asked > asked + 5, "answers to a flow of before")
    restart.communicate(timeout=PATIENCE_S)
    assert restart.returncode == 0
    assert (old.first, old.lost, old.moved) == (1, 0, 0)


def test_applied_before_the_first_instance_that_no_restart_started(edge: Edge) -> None:
    edge.server.write_text(SERVER)
    define(edge, timeout=9, flows=1024)
    [change] = edge.host.json("dissector", "apply", "edge")["addresses"]
    assert (change["address"], change["changed"]) == (WHERE, True)
    assert change["after"]["parameters"] == {"flow_timeout": 9}
    assert change["after"]["flows"] == 1024
    [change] = edge.host.json("dissector", "apply", "edge", "--check")["addresses"]
    assert not change["changed"]
    subprocess.run(["systemctl", "start", "edge@1.service"], check=True)
    cgroup = edge.host.cgroup / "edge@1.service"
    edge.host.json("enroll", WHERE, f"--cgroup={cgroup}", "--count=2", "--gen=1")
    edge.host.json("working-gen", WHERE, "newest")
    assert edge.host.group(WHERE)["dissector"]["flow_timeout"] == 9
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def enrolled() -> Iterator[None]:
    """Yield a socket of a server that knows of no dissector, in a generation."""
    with plain_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(TO)
        grm.enroll([sock], 1)
        yield


@pytest.mark.parametrize(
    "name, parameters, others",
    [
        ("cbpf", {"filter": [[6, 0, 0, 1]]}, {"filter": [[6, 0, 0, 2]]}),
        ("bespoke", {"sni": {"a.example": 0}}, {"sni": {"b.example": 0}}),
        ("bespoke", {"sni": {"a.example": 0}}, {"sni": {"a.example": 0}, "max_apps": 4}),
        ("quic", {"cid_length": 8}, {"cid_length": 9}),
    ],
)
def test_other_parameters_are_another_dissector(
    edge: Edge, name: str, parameters: dict[str, Any], others: dict[str, Any]
) -> None:
    def apply(parameters: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        dissector = {"name": name, "parameters": parameters}
        edge.define(groups=[{"address": WHERE, "sockets": 1, "dissector": dissector}])
        return edge.host.run("dissector", "apply", "edge")

    assert apply(parameters).returncode == 0
    with enrolled():
        refused = apply(others)
        assert refused.returncode == 255
        assert f"{WHERE} has sockets of another dissector ({name}" in refused.stderr
        same = apply(parameters)
        assert (same.returncode, same.stdout.rstrip().endswith(" already")) == (0, True)


def test_one_dissector_in_a_definition_and_in_a_command(edge: Edge) -> None:
    dissector = {"name": "quic", "parameters": {"cid_length": 8}}
    edge.define(groups=[{"address": WHERE, "sockets": 1, "dissector": dissector}])
    assert edge.host.json("dissector", "set", WHERE, "quic", "cid_length=8")["changed"] is True
    with enrolled():
        [change] = edge.host.json("dissector", "apply", "edge")["addresses"]
        assert change["changed"] is False


def test_a_group_keeps_its_dissector(edge: Edge) -> None:
    edge.server.write_text(SERVER)
    define(edge, timeout=9, flows=65536)
    assert edge.restart("--json").returncode == 0
    define(edge, timeout=10, flows=65536)
    done = edge.restart()
    assert done.returncode == 255
    assert "has sockets of another dissector (flow flow_timeout=9)" in done.stderr
    assert (edge.alive(), edge.working()) == ([1], 1)
    # the group waits for an adopted unit that may be started again
    subprocess.run(["systemctl", "stop", "edge@1.service"], check=True)
    done = edge.restart()
    assert done.returncode == 255
    assert "has sockets of another dissector (flow flow_timeout=9), or had" in done.stderr
    assert f"udpgrm delete {WHERE}" in done.stderr
    assert edge.host.run("delete", WHERE).returncode == 0
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr
