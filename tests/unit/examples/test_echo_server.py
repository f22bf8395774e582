# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The example server as a process, with a client library that only binds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.waiting import PATIENCE_S

SERVER = Path(__file__).resolve().parents[3] / "examples" / "echo_server.py"
IDLE = 3.0
LIMIT = 2.0
CLIENT_LIBRARY = """
import socket
def bind(address, count, flow_timeout):
    host, port = address.rsplit(":", 1)
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in made:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, int(port)))
    return made
def enroll(socks, generation, timeout=5.0):
    if generation == 13:
        raise TimeoutError("no index after 5 s")
    return list(range(len(socks)))
"""


class Running:
    """A server process, and a client of it."""

    def __init__(self, directory: Path, generation: int, limit: float = 600) -> None:
        library = directory / "udpgrm"
        library.mkdir()
        (library / "__init__.py").touch()
        (library / "client.py").write_text(CLIENT_LIBRARY)
        self.ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ready.bind(str(directory / "notify"))
        self.ready.settimeout(PATIENCE_S)
        # keeps the port for the server, and gets no packet: it has another peer than the client
        self.port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port.bind(("127.0.0.1", 0))
        self.port.connect(("127.0.0.1", 9))
        host, port = self.port.getsockname()
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.settimeout(PATIENCE_S)
        self.client.connect((host, port))
        command = [sys.executable, str(SERVER), f"--address={host}:{port}", "--sockets=2"]
        command += [f"--generation={generation}", "--name=test", f"--idle={IDLE}"]
        self.process = subprocess.Popen(
            [*command, f"--drain-limit={limit}"],
            env={
                **os.environ,
                "PYTHONPATH": str(directory),
                "NOTIFY_SOCKET": str(directory / "notify"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, payload: bytes) -> bytes:
        """Send a packet and return the answer."""
        self.client.send(payload)
        return self.client.recv(2048)

    def drain(self) -> None:
        """Send SIGTERM and wait until it is heeded."""
        self.process.send_signal(signal.SIGTERM)
        assert self.ready.recv(64) == b"STOPPING=1"

    def close(self) -> None:
        """End the process and close everything."""
        self.process.kill()
        self.process.communicate()
        self.client.close()
        self.port.close()
        self.ready.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, generation=7)
    yield running
    running.close()


def test_answers_name_instance_and_payload(server: Running) -> None:
    assert server.ready.recv(64) == b"READY=1"
    assert server.ask(b"hello world") == b"test 7 %d hello world" % server.process.pid


def drains_until_silence(server: Running) -> bool:
    """Return whether no packet was so late, on a busy machine, that the drain may have ended."""
    server.ready.recv(64)
    server.ask(b"first")
    server.drain()
    begun = asked = time.monotonic()
    while asked < begun + 1.5 * IDLE:
        time.sleep(IDLE / 6)
        before, asked = asked, time.monotonic()
        server.client.send(b"more")
        if time.monotonic() > before + 0.9 * IDLE:
            return False
        assert server.client.recv(2048).endswith(b"more")
    last = time.monotonic()
    assert server.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - last > 0.8 * IDLE
    return True


def test_drain_ends_after_silence(tmp_path: Path) -> None:
    for number in range(10):
        directory = tmp_path / str(number)
        directory.mkdir()
        server = Running(directory, generation=7)
        try:
            if drains_until_silence(server):
                return
        finally:
            server.close()
    raise AssertionError("packets were late each time")


def test_drain_ends_at_its_limit_and_answers_what_is_queued(tmp_path: Path) -> None:
    server = Running(tmp_path, generation=7, limit=LIMIT)
    server.ready.recv(64)
    server.ask(b"first")
    server.drain()
    # stopped, it cannot answer before the limit is over: all of these are in the queue then
    server.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        server.client.send(b"%d" % number)
    time.sleep(LIMIT)
    server.process.send_signal(signal.SIGCONT)
    answers = [server.client.recv(2048).split()[-1] for _ in range(100)]
    assert answers == [b"%d" % number for number in range(100)]
    assert server.process.wait(PATIENCE_S) == 0
    server.close()


def test_failed_enrolment_is_one_line_and_no_readiness(tmp_path: Path) -> None:
    running = Running(tmp_path, generation=13)
    try:
        assert running.process.wait(PATIENCE_S) == 1
        assert running.process.stderr
        assert running.process.stderr.read() == "echo_server: no index after 5 s\n"
        running.ready.setblocking(False)
        with pytest.raises(BlockingIOError):
            running.ready.recv(64)
    finally:
        running.close()
