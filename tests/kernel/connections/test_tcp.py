# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers of UDP and TCP at one address: new connections are steered as new flows are."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

import udpgrm.client as grm
from testing.host import ROOT, client, remove_cgroup
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import TO, WHERE, Edge, ask, serving_only, until

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")

TCP = f"{WHERE}/tcp"
SYSTEMCTL = str(ROOT / "tests/kernel/units/systemctl")
RESTARTS = 3
GROUPS = [
    {"address": WHERE, "dissector": {"name": "flow", "parameters": {"flow_timeout": 1}}},
    {"address": WHERE, "protocol": "tcp"},
]
DRAIN = {"until": {"flows": 0, "quiet_s": None}, "max_s": 600, "on_timeout": "fail"}

#: A server as distributions have them: it sets no SO_REUSEPORT, and answers `?` with its
#: generation, over UDP and on connections.
SERVER = """
import os, signal, socket, sys, threading
generation, (host, port) = sys.argv[1].encode(), sys.argv[2].split(":")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def answers(data):
    return generation if data == b"?" else data
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((host, int(port)))
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, int(port)))
listener.listen(64)
def datagrams():
    while True:
        data, peer = udp.recvfrom(2048)
        udp.sendto(answers(data), peer)
def serve(connection):
    with connection:
        while data := connection.recv(2048):
            connection.sendall(answers(data))
def connections():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
for work in (datagrams, connections):
    threading.Thread(target=work, daemon=True).start()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


@pytest.fixture
def both(edge: Edge) -> Edge:
    """Return a service of UDP and TCP that knows nothing of udpgrm, its generation 1 serving."""
    edge.server.write_text(SERVER)
    edge.unit()
    edge.define(groups=GROUPS, enrollment="adopted", drain=DRAIN)
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr
    return edge


@contextlib.contextmanager
def connected() -> Iterator[socket.socket]:
    """Yield a new connection."""
    with socket.create_connection(TO, timeout=PATIENCE_S) as connection:
        yield connection


def generation_of(connection: socket.socket) -> int:
    """Return the generation that answers on a connection."""
    connection.sendall(b"?")
    return int(connection.recv(100))


def test_new_connections_reach_the_new_instance_and_others_stay(both: Edge) -> None:
    with connected() as old, client() as flow:
        assert (generation_of(old), ask(flow)) == (1, 1)
        with both.start() as restart:
            both.await_step("drain")
            with connected() as new:
                assert (generation_of(old), generation_of(new)) == (1, 2)
            assert both.host.group(TCP)["generations"][0]["flows"] == 1
            old.close()
            assert restart.wait(timeout=PATIENCE_S) == 0
    assert serving_only(both, 2)
    assert both.working(TCP) == 2


@pytest.mark.daemon("own")
def test_no_connection_reaches_an_instance_that_was_not_promoted(both: Edge) -> None:
    both.define(
        groups=GROUPS,
        enrollment="adopted",
        drain=DRAIN,
        probes=[{"type": "raw", "payload": "ff", "timeout_s": 2, "expect": "00", "retries": 5}],
        timeouts={"canary_s": 60},
    )
    before = received_packets(both)
    with both.start() as restart:
        until(lambda: received_packets(both) > before, "the probe of the canary")
        restart.send_signal(signal.SIGSTOP)  # the canary lasts until all have connected
        try:
            seen = set()
            for _ in range(60):
                with connected() as new:
                    seen.add(generation_of(new))
            assert restart.poll() is None
            assert both.journal()["step"] == "canary"
        finally:
            restart.send_signal(signal.SIGCONT)
        assert seen == {1}
        assert restart.wait(timeout=PATIENCE_S) == 1


def received_packets(edge: Edge) -> int:
    """Packets that the service has got over UDP."""
    return edge.host.counters(WHERE).get("rx_processed_total", 0)


def test_an_instance_that_crashed_comes_back_in_its_generation(both: Edge) -> None:
    with both.start() as restart:  # two instances: only what is enrolled gets connections
        with connected() as old:
            generation_of(old)
            both.await_step("drain")
            restart.send_signal(signal.SIGSTOP)  # it would roll back if it saw that
            remove_cgroup(both.host.cgroup / "edge@2.service")
            subprocess.run([SYSTEMCTL, "start", "edge@2.service"], check=True)
            until(lambda: alive(both) == {1: 1, 2: 1}, "the new listener")
            restart.send_signal(signal.SIGCONT)
            with connected() as new:
                assert generation_of(new) == 2
        restart.wait(timeout=PATIENCE_S)


@pytest.mark.daemon("own")
def test_one_that_is_found_before_it_listens(
    both: Edge, tmp_path: Path, sockets: list[socket.socket]
) -> None:
    hold, bound = tmp_path / "hold", tmp_path / "bound"
    wait = f"""
import time
open({str(bound)!r}, "w")
while os.path.exists({str(hold)!r}):
    time.sleep(0.01)
"""
    both.server.write_text(SERVER.replace("listener.listen", f"{wait}listener.listen"))
    remove_cgroup(both.host.cgroup / "edge@1.service")
    hold.touch()
    with both.host.stopped():
        start = subprocess.Popen([SYSTEMCTL, "start", "edge@1.service"])
        until(bound.exists, "the server to bind")
    with start:
        until(lambda: "was started again" in both.host.errors.read_text(), "the daemon to look")
        sockets += grm.bind("127.0.0.1:4434")
        grm.enroll(sockets, 1)  # the daemon's next work
        hold.unlink()
        assert start.wait(PATIENCE_S) == 0
    until(lambda: alive(both) == {1: 1}, "the new listener")


def alive(edge: Edge) -> dict[int, int]:
    """Living listeners by generation."""
    found = edge.host.group(TCP)["generations"]
    return {item["generation"]: item["sockets_alive"] for item in found}


@pytest.mark.daemon("own")
def test_a_server_that_ran_before_is_adopted_and_moved(edge: Edge) -> None:
    edge.server.write_text(SERVER)
    edge.unit()
    edge.define(groups=GROUPS, enrollment="adopted", drain=DRAIN)
    command = f"{sys.executable} {edge.server} 0 {WHERE}"
    (edge.units / "edge-old.service").write_text(command)
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    with Load() as load, connected() as kept:
        assert generation_of(kept) == 0
        refused = edge.restart("--check")
        assert "of edge-old.service is in no generation" in refused.stderr
        done = edge.host.json("adopt", "edge", "--unit=edge-old.service")
        assert done["sockets"] == {WHERE: 1, TCP: 1}
        with edge.start() as restart:
            edge.await_step("drain")
            assert generation_of(kept) == 0
            with connected() as new:
                assert generation_of(new) == 1
            assert restart.poll() is None  # it waits for the connection from before
            kept.close()
            assert restart.wait(timeout=PATIENCE_S) == 0
    assert serving_only(edge, 1)
    assert load.failed == []


@pytest.mark.daemon("own")
def test_a_listener_that_is_adopted_after_one_at_the_same_port(edge: Edge) -> None:
    also = f"127.0.0.2:{TO[1]}"
    listens = f'also = socket.create_server(("127.0.0.2", {TO[1]}))\ndef datagrams'
    edge.server.write_text(SERVER.replace("def datagrams", listens))
    command = f"{sys.executable} {edge.server} 0 {WHERE}"
    (edge.units / "edge-old.service").write_text(command)
    subprocess.run(["systemctl", "start", "edge-old.service"], check=True)
    edge.define(groups=GROUPS, enrollment="adopted", drain=DRAIN)
    assert edge.host.run("adopt", "edge", "--unit=edge-old.service").returncode == 0
    edge.define(
        groups=[*GROUPS, {"address": also, "protocol": "tcp"}],
        enrollment="adopted",
        drain=DRAIN,
        probes=[{"type": "echo", "address": TCP, "timeout_s": 30}],
    )
    adopted = edge.host.json("adopt", "edge", "--unit=edge-old.service")
    assert adopted["sockets"] == {WHERE: 1, TCP: 1, f"{also}/tcp": 1}
    done = edge.restart()
    assert done.returncode == 0, done.stdout + done.stderr
    assert serving_only(edge, 1)


class Load:
    """Clients that connect, ask and close all the time."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed: list[str] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        while not self._done.wait(0.01):
            error: Optional[str] = None
            try:
                with connected() as connection:
                    generation_of(connection)
            except (OSError, ValueError) as failure:
                error = repr(failure)
            self.asked += 1
            self.failed += [] if error is None else [error]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.asked > 10, "answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_no_connection_fails_in_restarts_under_load(both: Edge) -> None:
    with Load() as load:
        for generation in range(2, RESTARTS + 2):
            before = load.asked
            done = both.restart()
            assert done.returncode == 0, done.stdout + done.stderr
            assert serving_only(both, generation)
            assert load.asked > before
    assert load.failed == []
