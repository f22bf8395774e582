# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A server at any address whose sockets for peers are at the address that the peer has asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from testing.host import Host, client
from tests.kernel.restart.test_shapes import KEPT, PER_PEER, step
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import Edge, ask
from udpgrm.restart.groups import Groups
from udpgrm.services.definition import Group

__all__ = ["edge"]

_LISTENING = """
family = socket.AF_INET6 if ANY == "::" else socket.AF_INET
listening = socket.socket(family, socket.SOCK_DGRAM)
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listening.bind((ANY, 4433))
"""
_PLAIN_PEER = "    data, peer = listening.recvfrom(2048)\n"
_IPV4_PEER = """
    if "." not in peer[0]:
        continue  # a probe of IPv6
    peer = peer[0].replace("::ffff:", ""), peer[1]
"""


def server_at(ip: str) -> str:
    """PER_PEER, which listens at any address of a family; its peers are of IPv4."""
    listening = f"ANY = {ip!r}{_LISTENING}"
    server = PER_PEER.replace("listening = bound()\n", listening)
    assert _PLAIN_PEER in server and listening in server
    return server.replace(_PLAIN_PEER, _PLAIN_PEER + _IPV4_PEER)


@pytest.mark.parametrize("where", ["0.0.0.0:4433", "[::]:4433"])
def test_a_drain_waits_for_them(edge: Edge, where: str) -> None:
    """Wait for them in a drain, those of an adopted unit from before the hooks too."""
    path = edge.units / "shape.py"
    path.write_text(server_at(where.rsplit(":", 1)[0].strip("[]")))
    edge.unit(server=path)
    edge.define(groups=[{"address": where}], enrollment="adopted", probes=[], drain=KEPT)
    (edge.units / "edge-old.service").write_text(f"{sys.executable} {path} 0")
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    with client() as first, client() as second, client() as third:
        assert ask(first) == 0
        done = edge.host.run("adopt", "edge", "--unit=edge-old.service")
        assert done.returncode == 0, done.stderr
        assert ask(second) == 0
        for generation in (0, 1):
            done = edge.restart("--json")
            assert done.returncode == 0, done.stdout + done.stderr
            evidence = step(done.stdout, "drain")["evidence"]
            # generation 1 has some for probes, too
            count = evidence["drain"]["connected"]
            assert count >= 1 if generation else count == 2
            assert not evidence["drained"]
            assert [ask(first), ask(second), ask(third)] == [0, 0, 1]


def test_one_that_is_about_to_connect_is_no_address_that_lacks_a_group(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Omit the address of a socket that connects meanwhile from those without a group."""
    groups = Groups(host.directory, [Group("0.0.0.0:4433")])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
    ):
        for sock, port in (peer, 4433), (listener, 4434):
            sock.bind(("127.0.0.1", port))
        pids = [os.getpid()]
        assert groups.omitted(pids) == ["127.0.0.1:4433", "127.0.0.1:4434"]
        monkeypatch.setattr(time, "sleep", lambda _: peer.connect(("127.0.0.1", 9)))
        assert groups.omitted(pids) == ["127.0.0.1:4434"]
