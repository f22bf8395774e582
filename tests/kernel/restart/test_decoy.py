# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Restarts of one unit whose old server lives on behind a decoy."""

from __future__ import annotations

import json
import sys

import pytest

from testing.host import ROOT
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import FLOW_S, WHERE, Edge, Traffic, until

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")

#: Goes to the generation after the working one; drains at the first SIGTERM.
SERVER = f"""
import os, signal, socket, sys, threading
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
sockets = grm.bind({WHERE!r}, 2, flow_timeout={FLOW_S})
generation = grm.working_generation(sockets[0]) + 1
told = []
def drain(*_):
    if told:
        os._exit(0)
    told.append(1)
    os.kill(os.getppid(), signal.SIGURG)
signal.signal(signal.SIGTERM, drain)
grm.enroll(sockets, generation, {PATIENCE_S})
def serve(sock):
    while True:
        data, peer = sock.recvfrom(2048)
        if f"mute-{{generation}}" not in sys.argv:
            sock.sendto(b"%d" % generation if data == b"?" else data, peer)
for sock in sockets:
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""


def unit(edge: Edge, *wrong: str) -> None:
    decoy = [sys.executable, str(ROOT / "bin/mmdecoy"), "--"]
    command = [*decoy, sys.executable, str(edge.units / "decoyed.py"), *wrong]
    (edge.units / "edge.service").write_text(" ".join(command))


@pytest.fixture
def decoyed(edge: Edge) -> Edge:
    """Return the service, whose generation 1 is active."""
    (edge.units / "decoyed.py").write_text(SERVER)
    unit(edge)
    edge.define(instances={"decoy": "edge.service"})
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return edge


def living(edge: Edge) -> list[int]:
    generations = edge.host.group(WHERE)["generations"]
    return [item["generation"] for item in generations if item["sockets_alive"]]


def test_a_restart(decoyed: Edge) -> None:
    with Traffic() as traffic:
        command = decoyed.start("restart", "edge", "--json")
        decoyed.await_step("drain")
        assert living(decoyed) == [1, 2]
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed + errors
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert (living(decoyed), decoyed.working()) == ([2], 2)


def test_the_way_back_and_forth(decoyed: Edge) -> None:
    unit(decoyed, "mute-2")
    decoyed.define(answer_s=0.5, instances={"decoy": "edge.service"})
    with Traffic() as traffic:
        done = decoyed.restart("--json")
        assert done.returncode == 1, done.stdout
        assert "generation 2 got it as steered" in done.stdout
        assert (living(decoyed), decoyed.working()) == ([1], 1)
    assert (traffic.lost, traffic.moved) == (0, 0)
    unit(decoyed)
    decoyed.define(instances={"decoy": "edge.service"})
    done = decoyed.restart("--json")
    assert done.returncode == 0, done.stdout
    assert (living(decoyed), decoyed.working()) == ([2], 2)


@pytest.mark.parametrize("step", ["start", "enroll", "promote", "drain"])
def test_killed(decoyed: Edge, step: str) -> None:
    with Traffic() as traffic:
        command = decoyed.start("restart", "edge")
        decoyed.await_step(step)
        command.kill()
        command.communicate()
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic after the kill")
    done = decoyed.restart("--resume", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["outcome"] == "finished"
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert (living(decoyed), decoyed.working()) == ([2], 2)
